// How much memory this machine has.
#pragma once

#include <cstddef>

namespace qwen35 {

// Bytes; 0 for what the system does not tell. `free`: what programs can have without swapping.
struct SystemMemory {
  std::size_t free = 0;
  std::size_t total = 0;
};

SystemMemory system_memory();

}  // namespace qwen35
