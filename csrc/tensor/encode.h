// fp32 rows to encoded blocks, offline: the encoders search scales for the least squared error instead of taking them
// from the extremes.
#pragma once

#include <cstddef>

#include "tensor/tensor.h"

namespace qwen35 {

bool can_encode(DType dtype) noexcept;

// Encodes rows x cols values, row-major, into rows of cols / block * block_bytes bytes at `dst`. The result has the
// same bits for any number of threads (0: as many as the process may use).
//
// `importance`, when given, holds cols weights for the squared error of each column. Only their ratios count; a group
// of columns whose weights are all zero is weighted evenly.
//
// Throws InputError for a type without encoder, for cols that are not whole blocks, for importances that are negative
// or not finite, and, naming row and column, for values that are not finite or that the type cannot hold: above 65504
// in magnitude for all but F32 and BF16, where scales are half precision.
void encode(DType dtype, const float* values, std::size_t rows, std::size_t cols, const float* importance,
            std::byte* dst, unsigned threads);

// What encode says of values that it refuses, by itself.
void check_encodable(DType dtype, const float* values, std::size_t rows, std::size_t cols);

}  // namespace qwen35
