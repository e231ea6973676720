#include "sequence/memory.h"

#include <algorithm>
#include <utility>

namespace qwen35 {
namespace {

constexpr std::size_t kLine = 64;

std::size_t whole_lines(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

}  // namespace

KvPages::KvPages(Backend& backend, const Config& config, KvFormat format)
    : format_(format),
      layer_bytes_(whole_lines(backend.kv_page_bytes(format, config.attention))),
      tables_(config.attention_layers()) {}

void KvPages::put(std::size_t index, Page page) {
  const std::size_t needed = std::max(pages_.size(), index + 1);
  for (auto& table : tables_) table.resize(needed);
  pages_.resize(needed);
  std::byte* at = page->data();
  for (auto& table : tables_) {
    table[index] = at;
    at += layer_bytes_;
  }
  pages_[index] = std::move(page);
}

void KvPages::make_writable(Backend& backend, std::size_t first, std::size_t count) {
  if (count == 0 || tables_.empty()) return;
  const std::size_t bytes = layer_bytes_ * tables_.size();
  const std::size_t last = (first + count - 1) / kPageTokens;
  for (std::size_t i = first / kPageTokens; i <= last; ++i) {
    const bool exists = i < pages_.size();
    if (exists && pages_[i].use_count() == 1) continue;
    Page page = backend.allocate(bytes);
    if (exists && i * kPageTokens < first) backend.copy(page->data(), pages_[i]->data(), bytes);
    put(i, std::move(page));
  }
}

void KvPages::cut(std::size_t tokens) {
  const std::size_t kept = std::min((tokens + kPageTokens - 1) / kPageTokens, pages_.size());
  pages_.resize(kept);
  for (auto& table : tables_) table.resize(kept);
}

void KvPages::replace(const std::vector<Page>& pages) {
  cut(0);
  for (std::size_t i = 0; i < pages.size(); ++i) put(i, pages[i]);
}

DeltaMemory::DeltaMemory(Backend& backend, const Config& config) {
  const std::size_t waiting = kDeltaChunk * sizeof(float);
  const std::size_t key_width = config.delta.key_width;
  memory_at_ = whole_lines((config.delta.conv_width - 1) * config.conv_channels() * sizeof(float));
  keys_at_ = memory_at_ + whole_lines(config.delta_width() * key_width * sizeof(float));
  deltas_at_ = keys_at_ + whole_lines(waiting * config.delta.key_heads * key_width);
  decays_at_ = deltas_at_ + whole_lines(waiting * config.delta_width());
  layer_bytes_ = decays_at_ + whole_lines(waiting * config.delta.value_heads);
  memory_ = backend.allocate(std::max(layer_bytes_ * config.delta_layers(), kLine));
}

DeltaSegment DeltaMemory::segment(std::size_t delta_layer, const Segment& rows) const noexcept {
  std::byte* layer = memory_->data() + delta_layer * layer_bytes_;
  const auto part = [layer](std::size_t at) { return reinterpret_cast<float*>(layer + at); };
  return {rows, part(0), part(memory_at_), part(keys_at_), part(deltas_at_), part(decays_at_)};
}

void DeltaMemory::copy_from(Backend& backend, const DeltaMemory& other) {
  backend.copy(memory_->data(), other.memory_->data(), bytes());
}

}  // namespace qwen35
