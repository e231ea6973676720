// Second moments of rows of activations: h += x^T x.
#pragma once

#include <cstddef>

#include "base/workers.h"

namespace qwen35 {

// h[cols, cols] += x^T x for `rows` rows of x, `stride` floats apart, in fp32. Fills the upper triangle (row <=
// column); below it h holds nothing of use until mirror_gram. The same bits for any number of threads.
void add_gram(float* h, std::size_t cols, const float* x, std::size_t rows, std::size_t stride, Workers& workers);

// Copies the upper triangle to the lower.
void mirror_gram(float* h, std::size_t cols, Workers& workers);

}  // namespace qwen35
