#include "devices/cuda/image.h"

// Of image.S, or of cmake/image_array.cmake.
extern "C" const unsigned long long qwen35_cuda_image[];

namespace qwen35::cuda {

const void* kernel_image() noexcept { return qwen35_cuda_image; }
bool has_kernel_image() noexcept { return true; }
const char* kernel_architectures() noexcept { return QWEN35_CUDA_ARCHITECTURES; }

}  // namespace qwen35::cuda
