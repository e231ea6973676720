// The model's arithmetic, in steps: tokens to last hidden rows, those rows to logits, and both to what a draft reads.
#pragma once

#include <cstddef>

#include "backend/backend.h"
#include "model/activations.h"
#include "model/config.h"
#include "model/weights.h"

namespace qwen35 {

// One pass over the current step of `ops`: the recurrent states and pages of its segments advance, and s.last holds the
// normed rows of its `outputs` output rows. s has as many rows as the step.
void forward(Backend& ops, const Weights& model, const Config& config, const Rope& rope, const Activations& s,
             std::size_t outputs);

// The layers of `model` alone: s.x is what comes into the first, and then what leaves the last.
void forward_layers(Backend& ops, const Weights& model, const Config& config, const Rope& rope, const Activations& s);

// The pairs of the current step, into the keys and values of the block that drafts: the row of token p + 1 pairs its
// embedding with the hidden state of p, which previous_rows left in s.h. Nothing attends to them here, so that this is
// all the block needs of a text that is given (docs/architecture.md 5).
void append_pairs(Backend& ops, const MtpWeights& block, const Config& config, const Rope& rope, const Activations& s);

// What follows the pairs of the current step: they go into the keys and values of the block, and s.last then holds the
// rows that a draft's logits are made of. `hidden` [T, D]: the hidden state of p for each token p + 1, s.h or, in a
// chain of drafts, the s.last of the draft before (docs/architecture.md 5).
void draft_layer(Backend& ops, const MtpWeights& block, const Config& config, const Rope& rope, const Activations& s,
                 Tensor hidden);

// Rows [first, first + count) of s.last to logits [count, V]; count is at most the rows of s.logits.
Tensor project(Backend& ops, const Weights& model, const Activations& s, std::size_t first, std::size_t count);

}  // namespace qwen35
