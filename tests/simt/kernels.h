// The kernels of csrc/devices/cuda, compiled for the host, by name.
#pragma once

#include <cstddef>
#include <span>

namespace simt {

struct Kernel {
  const char* name;
  void (*call)(const void* arguments);  // as one thread
  std::size_t argument_bytes;
  unsigned most_threads;  // of a block
};

std::span<const Kernel> kernels();

}  // namespace simt
