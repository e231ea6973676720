// A sequence as it stood at one moment. Immutable; costs the recurrent state and the tokens, the pages are only pinned.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "model/model.h"
#include "sequence/state.h"

namespace qwen35 {

class Snapshot {
 public:
  Snapshot(std::shared_ptr<Model> model, std::vector<Token> tokens, KvPages pages, RecurrentState state)
      : model_(std::move(model)), tokens_(std::move(tokens)), pages_(std::move(pages)), state_(std::move(state)) {}

  const Model& model() const noexcept { return *model_; }
  const std::shared_ptr<Model>& shared_model() const noexcept { return model_; }
  KvFormat format() const noexcept { return pages_.format(); }
  std::span<const Token> tokens() const noexcept { return tokens_; }
  const KvPages& pages() const noexcept { return pages_; }
  const RecurrentState& state() const noexcept { return state_; }
  std::size_t bytes() const noexcept { return state_.bytes() + tokens_.size() * sizeof(Token); }

  // ---- taken apart and put together again -------------------------------------------------------------------------
  // A page and how many of its positions the snapshot uses.
  struct UsedPage {
    Page page;
    std::size_t tokens;
  };
  // Every page it needs, by number, the plain form before the quantised one.
  std::vector<UsedPage> parts() const;
  std::vector<std::byte> state_bytes() const;

  using Part = std::variant<Page, std::span<const std::byte>>;
  // Throws InputError when parts or state are not what parts() and state_bytes() of such a snapshot give.
  static std::shared_ptr<Snapshot> assemble(std::shared_ptr<Model> model, KvFormat format, std::vector<Token> tokens,
                                            std::span<const Part> parts, std::span<const std::byte> state);

 private:
  std::shared_ptr<Model> model_;
  std::vector<Token> tokens_;
  KvPages pages_;
  RecurrentState state_;
};

}  // namespace qwen35
