// What the programs of test_faults.py and test_words.py share: kernels run on the fibers, without a driver.
#pragma once

#include <cstdio>
#include <cstring>
#include <vector>

#include "devices/cuda/device.cuh"

namespace simt {

template <auto kKernel>
struct AsThread;
template <class Args, void (*kKernel)(Args)>
struct AsThread<kKernel> {
  static void call(const void* args) { kKernel(*static_cast<const Args*>(args)); }
};

// Runs a kernel over its arguments, wherever `launch` says.
template <auto kKernel, class Args>
void run_kernel(const Args& args, Launch launch) {
  launch.kernel = AsThread<kKernel>::call;
  launch.arguments = &args;
  run(launch);
}

inline Launch over(unsigned blocks, unsigned threads, std::size_t shared_bytes = 0) {
  Launch launch;
  launch.grid.x = blocks, launch.block.x = threads, launch.shared_bytes = shared_bytes;
  return launch;
}

}  // namespace simt
