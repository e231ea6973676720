// AVX2 and FMA: sixteen registers of eight.
#include "quantise/gemm_tile.h"

namespace qwen35 {

GemmKernels avx2_gemm() noexcept {
  using Eight = float __attribute__((vector_size(32)));
  return gemm_kernels_of<GemmTile<Eight, 6, 2>, 6>("avx2");
}

}  // namespace qwen35
