#include "sequence/snapshot.h"

#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

// visit(table, number, bytes) for every page of a snapshot of `tokens` tokens, in the order of parts().
template <class Pages, class Visit>
void each_page(Pages& pages, const KvPages& layout, std::size_t tokens, Visit&& visit) {
  if (layout.open_page_bytes() == 0) return;  // no attention layers
  for (std::size_t i = 0; i * kPageTokens < tokens; ++i) {
    if (has_open_page(layout.format(), i, tokens)) visit(pages.open, i, layout.open_page_bytes());
    if (has_packed_page(layout.format(), i, tokens)) visit(pages.packed, i, layout.packed_page_bytes());
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
  return std::make_shared<PageMemory>(std::move(buffer));
}

}  // namespace

std::vector<Page> Snapshot::parts() const {
  std::vector<Page> parts;
  const KvPages layout(model_->take_turn().ops(), model_->config(), format_);
  each_page(pages_, layout, tokens_.size(),
            [&](const std::vector<Page>& pages, std::size_t i, std::size_t) { parts.push_back(pages[i]); });
  return parts;
}

std::vector<std::byte> Snapshot::memory_bytes() const {
  std::vector<std::byte> bytes(memory_.bytes());
  model_->take_turn().ops().download(bytes.data(), memory_.data(), bytes.size());
  return bytes;
}

std::shared_ptr<Snapshot> Snapshot::assemble(std::shared_ptr<Model> model, KvFormat format, std::vector<Token> tokens,
                                             std::span<const Part> parts, std::span<const std::byte> memory) {
  const auto turn = model->take_turn();
  const KvPages layout(turn.ops(), model->config(), format);
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
    to[i] = to_page(turn.ops(), *next++, bytes);
  });
  DeltaMemory delta(turn.ops(), model->config());
  if (memory.size() != delta.bytes()) {
    throw InputError("the memory of a snapshot has " + std::to_string(memory.size()) + " bytes, expected " +
                     std::to_string(delta.bytes()));
  }
  turn.ops().upload(delta.data(), memory.data(), memory.size());
  turn.ops().synchronize();
  return std::make_shared<Snapshot>(model, format, std::move(tokens), std::move(pages), std::move(delta));
}

}  // namespace qwen35
