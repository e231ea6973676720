// Drafts: what the multi-token-prediction block thinks comes next. They are guesses, which a pass with uncertain tokens
// verifies; nothing that a sequence holds changes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sequence/sequence.h"

namespace qwen35 {

struct DraftItem {
  Sequence* sequence;                        // that has read at least one token
  Token token;                               // what follows, not read yet
  std::size_t most;                          // drafts wanted, at most the model's
  float least = 0.0F;                        // drafts end before the product of their probabilities would be below
  std::span<const std::uint32_t> mask = {};  // as of Sampler, for the first draft; empty: every token
};

struct Draft {
  Token token;
  float probability;  // that the block gives it, among the 64 that it finds the most likely
};

// The drafts for each item, each the most likely one behind those before it: as many as wanted, fewer where no token
// can be chosen or one is too unlikely. Items share passes. Throws InputError when the model has no block that drafts,
// or an item cannot be.
std::vector<std::vector<Draft>> draft(Model& model, std::span<const DraftItem> items);

}  // namespace qwen35
