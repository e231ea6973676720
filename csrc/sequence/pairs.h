// What the block that drafts keeps of a sequence: keys and values of a pair for each token and the hidden state before
// it. They are written some tokens at a time, or when somebody asks what comes next: reading the block's weights for
// every token would cost more than drafts that are never right can give back.
#pragma once

#include <cstddef>
#include <vector>

#include "model/model.h"
#include "sequence/state.h"

namespace qwen35 {

class Sequence;

// The pairs of so many tokens. Pair p has the place of the hidden state, so that its pages lie one token behind those
// of the layers.
template <class Count>
constexpr Count pairs(Count tokens) noexcept {
  return tokens == 0 ? 0 : tokens - 1;
}

struct Pairs {
  explicit Pairs(KvPool& pool) : pages(pool) {}

  void cut(std::size_t tokens) noexcept;
  void note(std::size_t tokens, std::size_t certain_tokens) noexcept;  // all of theirs are written

  KvPages pages;  // none without a block that drafts
  std::size_t written = 0;
  std::size_t committed = 0;  // of these, those that cannot be taken back
};

// Writes the pairs that sequences lack of the tokens that they have read, from the hidden rows that are kept with their
// recurrent states. For whoever holds the device.
class LatePairs {
 public:
  explicit LatePairs(Model& model) : model_(model) {}

  void add(Sequence& sequence);  // throws OutOfMemory, and leaves it out then
  void run(Model::DeviceLock& device);

 private:
  Model& model_;
  std::vector<Sequence*> sequences_;
  StepArrays step_;
};

}  // namespace qwen35
