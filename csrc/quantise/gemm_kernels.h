// The inner loops of the fp32 matrix product, for each instruction set.
#pragma once

#include <cstddef>
#include <span>

namespace qwen35 {

// Rows of a weight matrix that the solver carries side by side, one per lane. Each tile of them reads the moments once
// for each sweep: at 100 GFLOP/s a core, 1.5 GB/s.
inline constexpr std::size_t kRowTile = 128;

struct GemmKernels {
  using Copy = void (*)(std::size_t panels, std::size_t depth, const float* from, std::size_t stride,
                        float* to) noexcept;

  const char* name;  // "portable", "avx2", "avx512"
  std::size_t rows;  // of the tile that `multiply` fills
  std::size_t cols;
  // c[rows, cols] += a^T b over packed panels a[depth, rows] and b[depth, cols]; rows of c are `stride` apart. Adds
  // from depth 0 upwards.
  void (*multiply)(std::size_t depth, const float* a, const float* b, float* c, std::size_t stride) noexcept;
  // Packs panels of `rows` or of `cols` columns out of a matrix of `depth` rows, `stride` apart.
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
