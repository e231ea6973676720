#include "sequence/state.h"

#include <algorithm>
#include <atomic>
#include <utility>

namespace qwen35 {
namespace {

constexpr std::size_t kLine = 64;

std::size_t whole_lines(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

std::uint64_t next_id() noexcept {
  static std::atomic<std::uint64_t> last = 0;
  return ++last;
}

}  // namespace

PageBuffer::PageBuffer(std::unique_ptr<Buffer> memory) : id(next_id()), buffer(std::move(memory)) {}

std::size_t PageTable::bytes() const noexcept {
  const auto held = std::ranges::count_if(pages_, [](const Page& page) { return page != nullptr; });
  return static_cast<std::size_t>(held) * page_bytes();
}

void PageTable::put(std::size_t index, Page page) {
  const std::size_t needed = std::max(pages_.size(), index + 1);
  for (auto& layer : layers_) layer.resize(needed);
  pages_.resize(needed);
  std::byte* at = page == nullptr ? nullptr : page->buffer->data();
  for (auto& layer : layers_) {
    layer[index] = at;
    if (at != nullptr) at += layer_bytes_;
  }
  pages_[index] = std::move(page);
}

void PageTable::drop(std::size_t index) noexcept {
  pages_[index].reset();
  for (auto& layer : layers_) layer[index] = nullptr;
}

void PageTable::replace(const std::vector<Page>& pages) {
  pages_.clear();
  for (auto& layer : layers_) layer.clear();
  for (std::size_t i = 0; i < pages.size(); ++i) put(i, pages[i]);
}

bool has_fp16_page(KvFormat format, std::size_t page, std::size_t tokens) noexcept {
  return page * kPageTokens < tokens && !(is_quantised(format) && reads_quantised(page, tokens / kPageTokens));
}

bool has_quantised_page(KvFormat format, std::size_t page, std::size_t tokens) noexcept {
  return is_quantised(format) && page >= kFirstQuantisedPage && (page + 1) * kPageTokens <= tokens;
}

KvPages::KvPages(Backend& backend, const Config& config, KvFormat format)
    : format_(format),
      open_(config.attention_layers(), whole_lines(backend.kv_page_bytes(format, config.attention))),
      packed_(config.attention_layers(),
              is_quantised(format) ? whole_lines(backend.quantised_page_bytes(format, config.attention)) : 0) {}

KvSegment KvPages::segment(std::size_t attention_layer, const Segment& rows) const noexcept {
  return {rows, open_.layer(attention_layer), format_, packed_.layer(attention_layer)};
}

void KvPages::make_writable(Backend& backend, std::size_t first, std::size_t count) {
  if (count == 0 || open_.page_bytes() == 0) return;
  const std::size_t end = first + count;
  for (std::size_t i = first / kPageTokens; i * kPageTokens < end; ++i) {
    const bool exists = i < open_.pages().size() && open_.pages()[i] != nullptr;
    if (!exists || open_.pages()[i].use_count() > 1) {
      auto page = std::make_shared<PageBuffer>(backend.allocate(open_.page_bytes()));
      if (exists && i * kPageTokens < first) {
        backend.copy(page->buffer->data(), open_.pages()[i]->buffer->data(), open_.page_bytes());
      }
      open_.put(i, std::move(page));
    }
    if (has_quantised_page(format_, i, end)) {
      packed_.put(i, std::make_shared<PageBuffer>(backend.allocate(packed_.page_bytes())));
    }
  }
}

void KvPages::settle(std::size_t tokens) noexcept {
  if (!is_quantised(format_)) return;
  for (std::size_t i = std::max(settled_, kFirstQuantisedPage); reads_quantised(i, tokens / kPageTokens); ++i) {
    open_.drop(i);
    settled_ = i + 1;
  }
}

void KvPages::replace(const PinnedPages& pages) {
  open_.replace(pages.open);
  packed_.replace(pages.packed);
  settled_ = 0;
}

RecurrentState::RecurrentState(Backend& backend, const Config& config) {
  const std::size_t waiting = kDeltaChunk * sizeof(float);
  const std::size_t key_width = config.delta.key_width;
  memory_at_ = whole_lines((config.delta.conv_width - 1) * config.conv_channels() * sizeof(float));
  keys_at_ = memory_at_ + whole_lines(config.delta_width() * key_width * sizeof(float));
  deltas_at_ = keys_at_ + whole_lines(waiting * config.delta.key_heads * key_width);
  decays_at_ = deltas_at_ + whole_lines(waiting * config.delta_width());
  layer_bytes_ = decays_at_ + whole_lines(waiting * config.delta.value_heads);
  memory_ = backend.allocate(std::max(layer_bytes_ * config.delta_layers(), kLine));
}

DeltaSegment RecurrentState::segment(std::size_t delta_layer, const Segment& rows) const noexcept {
  std::byte* layer = memory_->data() + delta_layer * layer_bytes_;
  const auto part = [layer](std::size_t at) { return reinterpret_cast<float*>(layer + at); };
  return {rows, part(0), part(memory_at_), part(keys_at_), part(deltas_at_), part(decays_at_)};
}

void RecurrentState::copy_from(Backend& backend, const RecurrentState& other) {
  backend.copy(memory_->data(), other.memory_->data(), bytes());
}

}  // namespace qwen35
