// The inner loops of the fp32 matrix product, for each instruction set.
#pragma once

#include <cstddef>
#include <span>

namespace qwen35 {

// Rows of a weight matrix that the solver carries side by side, one per lane.
inline constexpr std::size_t kRowTile = 64;

struct GemmKernels {
  using Copy = void (*)(std::size_t depth, const float* from, std::size_t stride, float* to) noexcept;

  const char* name;  // "portable", "avx2", "avx512"
  std::size_t rows;  // of the tile that `multiply` fills
  std::size_t cols;
  // c[rows, cols] += a^T b over packed panels a[depth, rows] and b[depth, cols]; rows of c are `stride` apart. Adds
  // from depth 0 upwards.
  void (*multiply)(std::size_t depth, const float* a, const float* b, float* c, std::size_t stride) noexcept;
  // Packs `depth` runs of `rows` or of `cols` neighbours, `stride` apart, one behind the other.
  Copy copy_rows;
  Copy copy_cols;
  // sum[kRowTile] += sum over k of a[k * a_stride] * rows[k][kRowTile].
  void (*combine)(std::size_t depth, const float* a, std::size_t a_stride, const float* rows, float* sum) noexcept;
};

// Those that this build has and this processor runs, slowest first. Never empty.
std::span<const GemmKernels> gemm_kernels() noexcept;

// The last of gemm_kernels().
const GemmKernels& fastest_gemm() noexcept;

}  // namespace qwen35
