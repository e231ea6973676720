// to = value, everywhere.
#pragma once

#include "devices/cuda/device.cuh"
#include "devices/cuda/kernel_args.h"

namespace qwen35::cuda {

KERNEL(fill, 256)(FillArgs args) {
  grid_dependency_wait();
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  if (i < args.count) args.to[i] = args.value;
}

}  // namespace qwen35::cuda
