// A sequence as it stood at one moment. Immutable; costs the delta memory and the tokens, the pages are only pinned.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "model/model.h"
#include "sequence/memory.h"

namespace qwen35 {

class Snapshot {
 public:
  Snapshot(std::shared_ptr<Model> model, KvFormat format, std::vector<Token> tokens, std::vector<Page> pages,
           DeltaMemory memory)
      : model_(std::move(model)),
        format_(format),
        tokens_(std::move(tokens)),
        pages_(std::move(pages)),
        memory_(std::move(memory)) {}

  const Model& model() const noexcept { return *model_; }
  KvFormat format() const noexcept { return format_; }
  std::span<const Token> tokens() const noexcept { return tokens_; }
  const std::vector<Page>& pages() const noexcept { return pages_; }
  const DeltaMemory& memory() const noexcept { return memory_; }
  std::size_t bytes() const noexcept { return memory_.bytes() + tokens_.size() * sizeof(Token); }

 private:
  std::shared_ptr<Model> model_;
  KvFormat format_;
  std::vector<Token> tokens_;
  std::vector<Page> pages_;
  DeltaMemory memory_;
};

}  // namespace qwen35
