// The model's arithmetic, in two steps: tokens to last hidden rows, and those rows to logits.
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

// Rows [first, first + count) of s.last to logits [count, V]; count is at most the rows of s.logits.
Tensor project(Backend& ops, const Weights& model, const Activations& s, std::size_t first, std::size_t count);

}  // namespace qwen35
