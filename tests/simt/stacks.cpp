#include "stacks.h"

#include <cstdint>

#include "mapping.h"

namespace simt {

unsigned char* Stacks::take() {
  if (free_.empty()) {
    unsigned char* memory = map(kGuard + kBytes);
    mprotect(memory, kGuard, PROT_NONE);
    return memory + kGuard;
  }
  unsigned char* stack = free_.back();
  free_.pop_back();
  return stack;
}

void** Stacks::top(unsigned char* stack) {
  const std::size_t color = reinterpret_cast<std::uintptr_t>(stack) / (kGuard + kBytes) * 320 % 4096 / 64 * 64;
  return reinterpret_cast<void**>(stack + kBytes - 64 - color);
}

}  // namespace simt
