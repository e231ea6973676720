#include "kernels.h"

#include "devices/cuda/kernel_list.h"
#include "devices/cuda/kernels.cu"

namespace simt {

namespace {

template <class Arguments>
constexpr std::size_t argument_bytes(void (*)(Arguments)) {
  static_assert(sizeof(Arguments) <= 4096, "a kernel takes up to 4 KiB of parameters");
  return sizeof(Arguments);
}

template <auto kKernel>
struct Call;
template <class Arguments, void (*kKernel)(Arguments)>
struct Call<kKernel> {
  static void with(const void* arguments) { kKernel(*static_cast<const Arguments*>(arguments)); }
};

}  // namespace

std::span<const Kernel> kernels() {
#define SIMT_KERNEL(name, ...)                                                         \
  Kernel{#name, &Call<&qwen35::cuda::name>::with, argument_bytes(&qwen35::cuda::name), \
         qwen35::cuda::name##_most_threads},
  static constexpr Kernel kAll[] = {QWEN35_CUDA_KERNELS(SIMT_KERNEL)};
#undef SIMT_KERNEL
  return kAll;
}

}  // namespace simt
