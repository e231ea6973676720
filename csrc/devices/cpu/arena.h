// Memory for what is streamed from end to end. On huge pages, where the system has them: reading past a small page's
// end costs a walk through the page table and stops the hardware's prefetcher (measured: 15 against 20 GB/s on one
// core).
#pragma once

#include <cstddef>
#include <memory>

namespace qwen35::cpu {

// 64-byte aligned and not initialised; huge pages from 2 MiB on. Throws std::bad_alloc.
std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes);

// Hands out pieces of larger blocks one behind the other, so that small matrices share huge pages too. A block goes
// when the last of its pieces goes.
class Arena {
 public:
  std::shared_ptr<std::byte> take(std::size_t bytes);

 private:
  std::shared_ptr<std::byte> block_;
  std::size_t bytes_ = 0;
  std::size_t used_ = 0;
  std::size_t taken_ = 0;  // in all blocks
};

}  // namespace qwen35::cpu
