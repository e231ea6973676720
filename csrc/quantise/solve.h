// Weights to ordinary blocks with the least error in what the matrix puts out, as far as the second moments H of its
// inputs tell: tr(D H D^T) over the differences D of values and what decoding gives.
#pragma once

#include <cstddef>

#include "quantise/factor.h"
#include "tensor/tensor.h"

namespace qwen35 {

struct SolveOptions {
  unsigned sweeps = 3;   // of coordinate descent over scales and codes, after rounding with error feedback
  unsigned threads = 0;  // 0: as many as the process may use
};

// Encodes rows x cols values, cols as the factor has them, into rows of blocks at `dst`. A row has the same bytes
// whatever other rows are given with it, and for any number of threads. Q3_K, Q4_0, Q4_1, Q4_K, Q5_K, Q6_K, IQ4_NL and
// IQ4_XS are solved for; the other types of tensor/encode.h are encoded with the diagonal of H as importance.
//
// Throws InputError as encode does.
void solve(DType dtype, const float* values, std::size_t rows, const Factor& factor, const SolveOptions& options,
           std::byte* dst);

// tr(D H D^T) of rows x cols values and their encoded blocks. h[cols, cols] is symmetric and need not be the moments
// that the blocks were solved for. The same bits for any number of threads.
double weighted_error(DType dtype, const float* values, std::size_t rows, std::size_t cols, const std::byte* encoded,
                      const float* h, unsigned threads);

}  // namespace qwen35
