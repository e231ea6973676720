// AVX-512: thirty-two registers of sixteen.
#include "quantise/gemm_tile.h"

namespace qwen35 {

GemmKernels avx512_gemm() noexcept {
  using Sixteen = float __attribute__((vector_size(64)));
  return gemm_kernels_of<GemmTile<Sixteen, 12, 2>, 12>("avx512");
}

}  // namespace qwen35
