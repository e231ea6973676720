// Attention layers.
#include "base/error.h"
#include "devices/cuda/cuda_backend.h"

namespace qwen35::cuda {

std::unique_ptr<KvPool> CudaBackend::kv_pool(const KvSpec&) { throw Error("attention on CUDA is not there yet"); }

void CudaBackend::do_norm_rope_append(Tensor, Tensor, Tensor, const HeadNorms&, float, const Rope&,
                                      const AttentionShape&, std::uint32_t) {
  throw Error("attention on CUDA is not there yet");
}

void CudaBackend::do_attend(Tensor, Tensor, const AttentionShape&, std::uint32_t) {
  throw Error("attention on CUDA is not there yet");
}

}  // namespace qwen35::cuda
