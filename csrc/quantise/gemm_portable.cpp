// With what every machine of this architecture has: SSE2 or NEON, or plain floats for compilers without vector types.
#include "quantise/gemm_tile.h"

namespace qwen35 {

GemmKernels portable_gemm() noexcept {
#if defined(__aarch64__)
  using Quad = float __attribute__((vector_size(16)));
  return gemm_kernels_of<GemmTile<Quad, 8, 3>, 8>("portable");
#elif defined(__GNUC__) || defined(__clang__)
  using Quad = float __attribute__((vector_size(16)));
  return gemm_kernels_of<GemmTile<Quad, 6, 2>, 6>("portable");
#else
  return gemm_kernels_of<GemmTile<float, 4, 8>, 4>("portable");
#endif
}

}  // namespace qwen35
