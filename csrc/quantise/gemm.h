// fp32 matrix product for one thread, on matrices of any strides and sizes.
#pragma once

#include <cstddef>
#include <vector>

#include "quantise/gemm_kernels.h"

namespace qwen35 {

// Element (i, k) lies at data[i * row + k * col].
struct Strided {
  const float* data;
  std::size_t row;
  std::size_t col;
};

class Gemm {
 public:
  explicit Gemm(const GemmKernels& kernels = fastest_gemm());

  const GemmKernels& kernels() const noexcept { return *kernels_; }

  // c[m, n] += a[m, depth] b[depth, n]; rows of c are `stride` apart. An element's additions are in one order, given by
  // depth alone: it has the same bits whatever other rows and columns are computed with it.
  void add(std::size_t m, std::size_t n, std::size_t depth, Strided a, Strided b, float* c, std::size_t stride);
  // c -= a b.
  void subtract(std::size_t m, std::size_t n, std::size_t depth, Strided a, Strided b, float* c, std::size_t stride);

 private:
  void multiply(std::size_t m, std::size_t n, std::size_t depth, Strided a, Strided b, bool negative, float* c,
                std::size_t stride);
  void multiply_packed(std::size_t m, std::size_t n, std::size_t depth, const float* a, const float* b, float* c,
                       std::size_t stride) const noexcept;

  struct alignas(64) Line {
    float at[16];
  };

  static float* room(std::vector<Line>& lines, std::size_t floats);

  const GemmKernels* kernels_;
  std::vector<Line> a_;  // packed panels: depth runs of kernels().rows or kernels().cols neighbours
  std::vector<Line> b_;
};

}  // namespace qwen35
