// The factor R of a symmetric positive definite matrix H = R R^T, R upper triangular.
#pragma once

#include <cstddef>

#include "base/workers.h"

namespace qwen35 {

// Replaces the upper triangle of h[cols, cols] by R; what lies below it is overwritten in part. False, with h in
// pieces, where a pivot (the square of an element of R's diagonal) is not above `least_pivot`. The same bits for any
// number of threads.
bool decompose_upper(float* h, std::size_t cols, float least_pivot, Workers& workers);

}  // namespace qwen35
