#include "devices/cuda/device.cuh"

namespace qwen35::cuda {

struct AddArgs {
  int* to;
  int value;
};

// to [blocks] += value, one block each.
KERNEL(add, 64)(AddArgs args) {
  grid_dependency_wait();
  if (threadIdx.x == 0) args.to[blockIdx.x] += args.value;
}

// The last byte of 64 KiB that a launch asks for.
KERNEL(use_shared, 64)(AddArgs args) {
  shared_memory()[65535] = static_cast<unsigned char>(args.value);
  args.to[0] = shared_memory()[65535];
}

}  // namespace qwen35::cuda
