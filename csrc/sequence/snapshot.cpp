#include "sequence/snapshot.h"

#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

// visit(table, number, bytes) for every page of a snapshot of `tokens` tokens, in the order of parts().
template <class Pages, class Visit>
void each_page(Pages& pages, const KvPages& layout, std::size_t tokens, Visit&& visit) {
  if (layout.fp16_page_bytes() == 0) return;  // no attention layers
  for (std::size_t i = 0; i * kPageTokens < tokens; ++i) {
    if (has_fp16_page(layout.format(), i, tokens)) visit(pages.open, i, layout.fp16_page_bytes());
    if (has_quantised_page(layout.format(), i, tokens)) visit(pages.packed, i, layout.quantised_page_bytes());
  }
}

Page to_page(Backend& ops, const Snapshot::Part& part, std::size_t bytes) {
  const Page* page = std::get_if<Page>(&part);
  const std::size_t given = page != nullptr ? (*page)->buffer->bytes() : std::get<1>(part).size();
  if (given != bytes) {
    throw InputError("a page of a snapshot has " + std::to_string(given) + " bytes, expected " + std::to_string(bytes));
  }
  if (page != nullptr) return *page;
  auto buffer = ops.allocate(bytes);
  ops.upload(buffer->data(), std::get<1>(part).data(), bytes);
  return std::make_shared<PageBuffer>(std::move(buffer));
}

}  // namespace

std::vector<Page> Snapshot::parts() const {
  std::vector<Page> parts;
  const KvPages layout(model_->lock_device().ops(), model_->config(), format_);
  each_page(pages_, layout, tokens_.size(),
            [&](const std::vector<Page>& pages, std::size_t i, std::size_t) { parts.push_back(pages[i]); });
  return parts;
}

std::vector<std::byte> Snapshot::state_bytes() const {
  std::vector<std::byte> bytes(state_.bytes());
  model_->lock_device().ops().download(bytes.data(), state_.data(), bytes.size());
  return bytes;
}

std::shared_ptr<Snapshot> Snapshot::assemble(std::shared_ptr<Model> model, KvFormat format, std::vector<Token> tokens,
                                             std::span<const Part> parts, std::span<const std::byte> state) {
  const auto device = model->lock_device();
  const KvPages layout(device.ops(), model->config(), format);
  std::size_t expected = 0;
  PinnedPages pages;
  each_page(pages, layout, tokens.size(), [&](auto&, std::size_t, std::size_t) { ++expected; });
  if (parts.size() != expected) {
    throw InputError("a snapshot of " + std::to_string(tokens.size()) + " tokens is given " +
                     std::to_string(parts.size()) + " pages, expected " + std::to_string(expected));
  }
  auto next = parts.begin();
  each_page(pages, layout, tokens.size(), [&](std::vector<Page>& to, std::size_t i, std::size_t bytes) {
    to.resize(i + 1);
    to[i] = to_page(device.ops(), *next++, bytes);
  });
  RecurrentState delta(device.ops(), model->config());
  if (state.size() != delta.bytes()) {
    throw InputError("the recurrent state of a snapshot has " + std::to_string(state.size()) + " bytes, expected " +
                     std::to_string(delta.bytes()));
  }
  device.ops().upload(delta.data(), state.data(), state.size());
  device.ops().synchronize();
  return std::make_shared<Snapshot>(model, format, std::move(tokens), std::move(pages), std::move(delta));
}

}  // namespace qwen35
