// Kernels with a fault planted, each beside its right version: `faults NAME right|wrong SEED`. Ends with 0 where the
// result is right, 1 where it is not; a fault that simt or a sanitizer sees ends it otherwise.
#include <cstdlib>

#include "program.h"

namespace qwen35::cuda {

struct FaultArgs {
  float* to;
  const float* from;
  unsigned* arrived;
  bool is_wrong;
};

// to[block] = sum of 64 numbers: lane 0 of each warp shows its part to the block.
KERNEL(barrier, 64)(FaultArgs args) {
  SHARED(float[2], parts);
  float sum = args.from[blockIdx.x * 64 + threadIdx.x];
  for (int step = 16; step; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = sum;
  if (!args.is_wrong) __syncthreads();
  if (threadIdx.x == 0) args.to[blockIdx.x] = parts[0] + parts[1];
}

// to[round] = what another thread shows in that round. The wrong versions let it go on to the next before it is read,
// which the result does not show where whoever reads wakes first.
template <class Meet>
DEVICE void show_in_rounds(const FaultArgs& args, Meet meet) {
  SHARED(float, shown);
  for (unsigned round = 0; round < 2; ++round) {
    if (threadIdx.x == blockDim.x / 2) shown = args.from[round];
    meet();
    if (threadIdx.x == 0) args.to[round] = shown;
    if (!args.is_wrong) meet();
  }
}
KERNEL(next_round, 64)(FaultArgs args) {
  show_in_rounds(args, [] { __syncthreads(); });
}
KERNEL(next_round_of_warp, 32)(FaultArgs args) {
  show_in_rounds(args, [] { __syncwarp(); });
}

// to[thread] = two numbers that come by different groups of asynchronous copies.
KERNEL(async_wait, 32)(FaultArgs args) {
  auto* stage = reinterpret_cast<float*>(shared_memory());
  for (unsigned group = 0; group < 2; ++group) {
    copy_async_4(&stage[32 * group + threadIdx.x], &args.from[32 * group + threadIdx.x]);
    copy_async_commit();
  }
  if (args.is_wrong) {
    copy_async_wait<1>();
  } else {
    copy_async_wait<0>();
  }
  args.to[threadIdx.x] = stage[threadIdx.x] + stage[32 + threadIdx.x];
  copy_async_wait<0>();
}

// d [16, 8] = a [16, 16] b [16, 8] in bf16, a row-major in `from`, b the numbers 1 to 8 by column. Two registers of a
// are exchanged in the wrong version.
DEVICE unsigned bf16_pair(float low, float high) {
  return __float_as_uint(low) >> 16 | (__float_as_uint(high) & 0xffff0000u);
}
KERNEL(fragment, 32)(FaultArgs args) {
  const unsigned g = threadIdx.x / 4, t = threadIdx.x % 4;
  unsigned a[4], b[2];
  for (unsigned i = 0; i < 4; ++i) {
    const unsigned j = args.is_wrong ? i / 2 + 2 * (i % 2) : i;
    const float* at = args.from + (g + 8 * (j % 2)) * 16 + 8 * (j / 2) + 2 * t;
    a[i] = bf16_pair(at[0], at[1]);
  }
  b[0] = b[1] = bf16_pair(float(g + 1), float(g + 1));
  float d[4] = {};
  mma_bf16_k16(d, a, b);
  for (unsigned i = 0; i < 4; ++i) args.to[(g + 8 * (i / 2)) * 8 + 2 * t + i % 2] = d[i];
}

// to = from, 256 numbers; the wrong version reads one behind the last.
KERNEL(global_bounds, 256)(FaultArgs args) { args.to[threadIdx.x] = args.from[threadIdx.x + args.is_wrong]; }

KERNEL(shared_bounds, 64)(FaultArgs args) {
  SHARED(float[64], all);
  all[threadIdx.x] = args.from[threadIdx.x];
  __syncthreads();
  args.to[threadIdx.x] = all[threadIdx.x + args.is_wrong];
}

KERNEL(dynamic_bounds, 64)(FaultArgs args) {
  auto* all = reinterpret_cast<float*>(shared_memory());
  all[threadIdx.x + args.is_wrong] = args.from[threadIdx.x];
  args.to[threadIdx.x] = all[threadIdx.x + args.is_wrong];
}

// The upper lanes vote while the lower ones shuffle.
KERNEL(collectives, 32)(FaultArgs args) {
  float x = args.from[threadIdx.x];
  if (args.is_wrong && threadIdx.x >= 16) {
    x = __any_sync(~0u, x > 0) ? 1.0f : 0.0f;
  } else {
    x = __shfl_sync(~0u, x, 0);
  }
  args.to[threadIdx.x] = x;
}

// One warp does not come to the barrier but waits for its own lane 0, which does.
KERNEL(half_barrier, 64)(FaultArgs args) {
  if (!args.is_wrong || threadIdx.x % 32 == 0) __syncthreads();
  __syncwarp();
  args.to[threadIdx.x] = args.from[threadIdx.x];
}

KERNEL(alignment, 32)(FaultArgs args) {
  copy_async_16(shared_memory() + 16 * threadIdx.x, args.from + 4 * threadIdx.x + args.is_wrong);
  copy_async_commit();
  copy_async_wait<0>();
  args.to[threadIdx.x] = reinterpret_cast<float*>(shared_memory())[4 * threadIdx.x];
}

KERNEL(copy_in_flight, 32)(FaultArgs args) {
  copy_async_4(shared_memory() + 4 * threadIdx.x, args.from + threadIdx.x);
  copy_async_commit();
  if (!args.is_wrong) copy_async_wait<0>();
  args.to[threadIdx.x] = args.from[threadIdx.x];
}

// The last block to arrive adds what the others wrote.
DEVICE void add_at_last(const FaultArgs& args, bool is_ordered) {
  args.to[1 + blockIdx.x] = args.from[blockIdx.x];
  const unsigned before = is_ordered ? arrive(args.arrived, gridDim.x) : atomicAdd(args.arrived, 1u);
  if (before != gridDim.x - 1) return;
  args.to[0] = 0;
  for (unsigned i = 0; i < gridDim.x; ++i) args.to[0] += args.to[1 + i];
}
// In the wrong version each block adds to the sum as it comes.
KERNEL(between_blocks, 32)(FaultArgs args) {
  if (threadIdx.x) return;
  if (args.is_wrong) {
    args.to[0] = (blockIdx.x ? args.to[0] : 0.0f) + args.from[blockIdx.x];
  } else {
    add_at_last(args, true);
  }
}
// An atomic operation alone orders nothing else.
KERNEL(arrival, 32)(FaultArgs args) {
  if (threadIdx.x == 0) add_at_last(args, !args.is_wrong);
}

KERNEL(dependency, 32)(FaultArgs args) {
  if (!args.is_wrong) grid_dependency_wait();
  args.to[threadIdx.x] = args.from[threadIdx.x];
}

}  // namespace qwen35::cuda

namespace {

using namespace qwen35::cuda;

constexpr unsigned kCount = 256;

struct Fault {
  const char* name;
  void (*run)(const FaultArgs& args, simt::Launch launch);
  simt::Launch launch;
  unsigned results;
  double (*expected)(const float* from, unsigned i);
};

double same(const float* from, unsigned i) { return from[i]; }
double sum_of(const float* from, unsigned first, unsigned count) {
  double sum = 0;
  for (unsigned i = 0; i < count; ++i) sum += from[first + i];
  return sum;
}

simt::Launch programmatic(simt::Launch launch) {
  launch.is_programmatic = true;
  return launch;
}

#define FAULT(name, launch, results, expected) \
  {#name, simt::run_kernel<qwen35::cuda::name, FaultArgs>, launch, results, expected}
const Fault kFaults[] = {
    FAULT(barrier, simt::over(3, 64), 3, [](const float* from, unsigned i) { return sum_of(from, 64 * i, 64); }),
    FAULT(next_round, simt::over(1, 64), 2, same),
    FAULT(next_round_of_warp, simt::over(1, 32), 2, same),
    FAULT(async_wait, simt::over(1, 32, 256), 32,
          [](const float* from, unsigned i) { return double{from[i]} + from[32 + i]; }),
    FAULT(fragment, simt::over(1, 32), 128,
          [](const float* from, unsigned i) { return sum_of(from, i / 8 * 16, 16) * (i % 8 + 1); }),
    FAULT(global_bounds, simt::over(1, 256), 256, same),
    FAULT(shared_bounds, simt::over(1, 64), 64, same),
    FAULT(dynamic_bounds, simt::over(1, 64, 256), 64, same),
    FAULT(collectives, simt::over(1, 32), 32, [](const float* from, unsigned) { return double{from[0]}; }),
    FAULT(half_barrier, simt::over(1, 64), 64, same),
    FAULT(alignment, simt::over(1, 32, 512), 32, [](const float* from, unsigned i) { return double{from[4 * i]}; }),
    FAULT(copy_in_flight, simt::over(1, 32, 128), 32, same),
    FAULT(between_blocks, simt::over(5, 32), 1, [](const float* from, unsigned) { return sum_of(from, 0, 5); }),
    FAULT(arrival, simt::over(5, 32), 1, [](const float* from, unsigned) { return sum_of(from, 0, 5); }),
    FAULT(dependency, programmatic(simt::over(1, 32)), 32, same),
};

int run_fault(const Fault& fault, bool is_wrong, unsigned seed) {
  // Exactly as large as they are, so that AddressSanitizer sees their ends; small whole numbers, exact in bf16.
  auto* from = static_cast<float*>(std::malloc(kCount * sizeof(float)));
  auto* to = static_cast<float*>(std::malloc(kCount * sizeof(float)));
  for (unsigned i = 0; i < kCount; ++i) from[i] = float(i * 37 % 61) - 20;
  unsigned arrived = 0;
  simt::Launch launch = fault.launch;
  launch.seed = seed;
  fault.run({to, from, &arrived, is_wrong}, launch);
  bool is_right = true;
  for (unsigned i = 0; i < fault.results; ++i) is_right = is_right && double{to[i]} == fault.expected(from, i);
  std::free(from);
  std::free(to);
  return is_right ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 4) return 2;
  for (const Fault& fault : kFaults) {
    if (!std::strcmp(fault.name, arguments[1])) {
      return run_fault(fault, !std::strcmp(arguments[2], "wrong"), unsigned(std::atoi(arguments[3])));
    }
  }
  return 2;
}
