// The model's arithmetic, in two steps: tokens to last hidden rows, and those rows to logits.
#pragma once

#include <cstddef>

#include "backend/backend.h"
#include "model/activations.h"
#include "model/config.h"
#include "model/weights.h"

namespace qwen35 {

// Reads the batch: every sequence's memory advances by its tokens, and s.last holds the normed rows of batch.outputs.
// s has as many rows as the batch has tokens.
void forward(Backend& ops, const Weights& model, const Config& config, const Rope& rope, const Activations& s,
             const Batch& batch);

// Rows [first, first + count) of s.last to logits [count, V]; count is at most the rows of s.logits.
Tensor project(Backend& ops, const Weights& model, const Activations& s, std::size_t first, std::size_t count);

}  // namespace qwen35
