// Stacks of fibers, kept for the next block and the next launch.
#pragma once

#include <cstddef>
#include <vector>

namespace simt {

class Stacks {
 public:
  static constexpr std::size_t kGuard = 4096;
  static constexpr std::size_t kBytes = 128 * 1024 - kGuard;  // of one; behind a page that nobody may touch

  unsigned char* take();
  void give_back(unsigned char* stack) { free_.push_back(stack); }
  // The first word of a new fiber. Tops of different stacks lie in different sets of the cache.
  static void** top(unsigned char* stack);

 private:
  std::vector<unsigned char*> free_;
};

}  // namespace simt
