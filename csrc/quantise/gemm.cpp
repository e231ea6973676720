#include "quantise/gemm.h"

#include <algorithm>
#include <array>

namespace qwen35 {

GemmKernels portable_gemm() noexcept;
GemmKernels avx2_gemm() noexcept;
GemmKernels avx512_gemm() noexcept;

namespace {

// Blocks of the operands: kDepth x kRows of a stays in the second-level cache, a panel of b in the first.
constexpr std::size_t kDepth = 256;
constexpr std::size_t kRows = 192;
constexpr std::size_t kCols = 512;

std::size_t round_up_to(std::size_t n, std::size_t unit) { return (n + unit - 1) / unit * unit; }

// Panels of `width` outer neighbours, one behind the other: to[panel][k][lane]. Lanes beyond the end are zeros.
void pack(std::size_t outer, std::size_t depth, const float* from, std::size_t outer_stride, std::size_t depth_stride,
          GemmKernels::Copy copy, std::size_t width, float* to) noexcept {
  std::size_t first = 0;
  if (outer_stride == 1) {  // whole panels by rows of the matrix, as it lies
    copy(outer / width, depth, from, depth_stride, to);
    first = outer / width * width;
  }
  for (; first < outer; first += width) {
    const std::size_t used = std::min(width, outer - first);
    for (std::size_t k = 0; k < depth; ++k) {
      float* row = to + first * depth + k * width;
      for (std::size_t lane = 0; lane < used; ++lane) {
        row[lane] = from[k * depth_stride + (first + lane) * outer_stride];
      }
      std::fill(row + used, row + width, 0.0f);
    }
  }
}

void negate(float* x, std::size_t n) noexcept {
  for (std::size_t i = 0; i < n; ++i) x[i] = -x[i];
}

struct Found {
  std::array<GemmKernels, 3> kernels;
  std::size_t count = 0;

  Found() noexcept {
    kernels[count++] = portable_gemm();
#if defined(QWEN35_GEMM_X86)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) kernels[count++] = avx2_gemm();
    if (__builtin_cpu_supports("avx512f")) kernels[count++] = avx512_gemm();
#endif
  }
};

}  // namespace

std::span<const GemmKernels> gemm_kernels() noexcept {
  static const Found found;
  return {found.kernels.data(), found.count};
}

const GemmKernels& fastest_gemm() noexcept { return gemm_kernels().back(); }

Gemm::Gemm(const GemmKernels& kernels) : kernels_(&kernels) {}

void Gemm::add(std::size_t m, std::size_t n, std::size_t depth, Strided a, Strided b, float* c, std::size_t stride) {
  multiply(m, n, depth, a, b, false, c, stride);
}

void Gemm::subtract(std::size_t m, std::size_t n, std::size_t depth, Strided a, Strided b, float* c,
                    std::size_t stride) {
  multiply(m, n, depth, a, b, true, c, stride);
}

void Gemm::multiply(std::size_t m, std::size_t n, std::size_t depth, Strided a, Strided b, bool negative, float* c,
                    std::size_t stride) {
  if (m == 0 || n == 0 || depth == 0) return;
  const std::size_t deepest = std::min(depth, kDepth);
  const std::size_t tile_rows = kernels_->rows, tile_cols = kernels_->cols;
  float* packed_a = room(a_, deepest * round_up_to(std::min(m, kRows), tile_rows));
  float* packed_b = room(b_, deepest * round_up_to(std::min(n, kCols), tile_cols));
  for (std::size_t k = 0; k < depth; k += kDepth) {
    const std::size_t deep = std::min(kDepth, depth - k);
    for (std::size_t j = 0; j < n; j += kCols) {
      const std::size_t wide = std::min(kCols, n - j);
      pack(wide, deep, b.data + k * b.row + j * b.col, b.col, b.row, kernels_->copy_cols, tile_cols, packed_b);
      for (std::size_t i = 0; i < m; i += kRows) {
        const std::size_t high = std::min(kRows, m - i);
        pack(high, deep, a.data + i * a.row + k * a.col, a.row, a.col, kernels_->copy_rows, tile_rows, packed_a);
        if (negative) negate(packed_a, deep * round_up_to(high, tile_rows));
        multiply_packed(high, wide, deep, packed_a, packed_b, c + i * stride + j, stride);
      }
    }
  }
}

float* Gemm::room(std::vector<Line>& lines, std::size_t floats) {
  lines.resize(std::max(lines.size(), (floats + 15) / 16));
  return lines.data()->at;
}

void Gemm::multiply_packed(std::size_t m, std::size_t n, std::size_t depth, const float* packed_a,
                           const float* packed_b, float* c, std::size_t stride) const noexcept {
  const std::size_t tile_rows = kernels_->rows, tile_cols = kernels_->cols;
  constexpr std::size_t kLargestTile = 1024;
  for (std::size_t j = 0; j < n; j += tile_cols) {
    const float* b = packed_b + j * depth;
    for (std::size_t i = 0; i < m; i += tile_rows) {
      const float* a = packed_a + i * depth;
      float* to = c + i * stride + j;
      const std::size_t rows = std::min(tile_rows, m - i), cols = std::min(tile_cols, n - j);
      if (rows == tile_rows && cols == tile_cols) {
        kernels_->multiply(depth, a, b, to, stride);
        continue;
      }
      // A tile over the edge is computed whole beside the matrix; what lies inside is added as the whole tile would.
      alignas(64) float tile[kLargestTile] = {};
      kernels_->multiply(depth, a, b, tile, tile_cols);
      for (std::size_t r = 0; r < rows; ++r) {
        for (std::size_t q = 0; q < cols; ++q) to[r * stride + q] += tile[r * tile_cols + q];
      }
    }
  }
}

}  // namespace qwen35
