#include "devices/cuda/image.h"

namespace qwen35::cuda {

const void* kernel_image() noexcept { return "no CUDA kernels"; }
bool has_kernel_image() noexcept { return false; }
const char* kernel_architectures() noexcept { return ""; }

}  // namespace qwen35::cuda
