// Every kernel: its name, its one argument, and the threads of a block. The host finds them in the module by these
// names, and the tests' driver (tests/simt) in its own program.
#pragma once

#include "devices/cuda/kernel_args.h"
#include "devices/cuda/sampling_args.h"

#define QWEN35_CUDA_KERNELS(NAME)                     \
  NAME(embed, EmbedArgs, kRowThreads)                 \
  NAME(take_rows, TakeRowsArgs, kRowThreads)          \
  NAME(previous_rows, PreviousRowsArgs, kRowThreads)  \
  NAME(kept_rows, KeptRowsArgs, kRowThreads)          \
  NAME(quantise, QuantiseArgs, kQuantiseThreads)      \
  NAME(rms_norm, RmsNormArgs, kNormThreads)           \
  NAME(matmul_1, MatmulArgs, kMatmulThreads)          \
  NAME(matmul_2, MatmulArgs, kMatmulThreads)          \
  NAME(matmul_8, MatmulArgs, kMatmulThreads)          \
  NAME(swiglu_1, SwigluArgs, kMatmulThreads)          \
  NAME(swiglu_2, SwigluArgs, kMatmulThreads)          \
  NAME(swiglu_8, SwigluArgs, kMatmulThreads)          \
  NAME(gated_delta_net, DeltaArgs, kMostDeltaThreads) \
  NAME(gated_delta_window, DeltaArgs, kRowThreads)    \
  NAME(norm_rope_append, AppendArgs, kAppendThreads)  \
  NAME(quantise_page, QuantisePageArgs, kPageKeys)    \
  NAME(attend_1, AttendArgs, kAttendThreads)          \
  NAME(attend_2, AttendArgs, kAttendThreads)          \
  NAME(attend_4, AttendArgs, kAttendThreads)          \
  NAME(route, RouteArgs, kWarp)                       \
  NAME(moe_gather, MoeGatherArgs, kMatmulThreads)     \
  NAME(moe_combine, MoeCombineArgs, kMatmulThreads)   \
  NAME(gemm, GemmArgs, kGemmThreads)                  \
  NAME(gemm_swiglu, SwigluArgs, kGemmThreads)         \
  NAME(moe_sort, MoeSortArgs, kSortThreads)           \
  NAME(gemm_gather, GemmGatherArgs, kGemmThreads)     \
  NAME(gemm_combine, GemmCombineArgs, kGemmThreads)   \
  NAME(moe_reduce, MoeReduceArgs, kRowThreads)        \
  NAME(block_maxima, BlockMaximaArgs, kRowThreads)    \
  NAME(sum_blocks, SumBlocksArgs, kRowThreads)        \
  NAME(likely_tokens, LikelyTokensArgs, kRowThreads)  \
  NAME(read_memory, ReadMemoryArgs, kRowThreads)      \
  NAME(multiply_int8, MultiplyInt8Args, kRowThreads)

namespace qwen35::cuda {

enum class Kernel : unsigned char {
#define QWEN35_KERNEL(name, Args, threads) name,
  QWEN35_CUDA_KERNELS(QWEN35_KERNEL)
#undef QWEN35_KERNEL
};

#define QWEN35_KERNEL(name, Args, threads) +1
inline constexpr unsigned kKernels = 0 QWEN35_CUDA_KERNELS(QWEN35_KERNEL);
#undef QWEN35_KERNEL

// Of a kernel: what it takes, and the threads of a block.
template <Kernel kKernel>
struct KernelOf;
#define QWEN35_KERNEL(name, Arguments, threads)   \
  template <>                                     \
  struct KernelOf<Kernel::name> {                 \
    using Args = Arguments;                       \
    static constexpr unsigned kThreads = threads; \
  };
QWEN35_CUDA_KERNELS(QWEN35_KERNEL)
#undef QWEN35_KERNEL

}  // namespace qwen35::cuda
