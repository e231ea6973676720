// One device held against another: a few small operations, one or two of every kind that a model is made of, with the
// same numbers on both. A card that is broken, or kernels that do not suit it, show here and not in what a model says.
#pragma once

#include <string>
#include <vector>

#include "backend/backend.h"

namespace qwen35 {

struct CheckedOperation {
  std::string name;       // "matmul Q4_0, 40 rows"
  double difference = 0;  // the largest, relative to the largest value of its row
  double expected = 0;    // at most
  double seconds = 0;     // on the device, from its inputs to its results
  std::string error;      // what the device answered in the place of results

  bool passes() const noexcept { return error.empty() && difference <= expected; }
};

// An operation that fails is the last one. Throws OutOfMemory where the device has none left for so little.
std::vector<CheckedOperation> self_check(Backend& device, Backend& reference);

// "computes wrongly in matmul Q4_0 (difference 0.3, expected at most 0.016)" of the first that does not pass; empty
// where all pass.
std::string first_failure(const std::vector<CheckedOperation>& operations);

}  // namespace qwen35
