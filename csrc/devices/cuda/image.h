// The kernels' machine code for every architecture, as one compressed fat binary within this program.
#pragma once

namespace qwen35::cuda {

// What the driver loads. Where no compiler was there to make it, a text that no driver takes but that of the tests,
// which has kernels of its own.
const void* kernel_image() noexcept;
bool has_kernel_image() noexcept;
const char* kernel_architectures() noexcept;  // "sm_80 sm_86 sm_89"; empty without an image

}  // namespace qwen35::cuda
