// Memory for what is streamed from end to end. On huge pages, where the system has them: reading past a small page's
// end costs a walk through the page table and stops the hardware's prefetcher (measured: 15 against 20 GB/s on one
// core).
#pragma once

#include <cstddef>
#include <memory>

namespace qwen35::cpu {

inline constexpr std::size_t kHugePage = std::size_t{2} << 20;

// 64-byte aligned and not initialised; huge pages from 2 MiB on. Throws OutOfMemory.
std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes);

// Hands out pieces of larger blocks one behind the other, so that small matrices share huge pages too. A block goes
// when the last of its pieces goes.
class Arena {
 public:
  // Size of a new block when `taken` bytes have been requested in all. A block wastes the rest of its last huge page,
  // so blocks grow with the total; later pages of the block are not touched.
  static std::size_t block_bytes(std::size_t taken) noexcept;
  std::shared_ptr<std::byte> take(std::size_t bytes);

 private:
  std::shared_ptr<std::byte> block_;
  std::size_t bytes_ = 0;
  std::size_t used_ = 0;
  std::size_t taken_ = 0;  // in all blocks
};

// Pieces that come and go, such as pages of keys and values: those of one size share blocks of huge pages, and a block
// goes back to the system when none of its pieces is in use. Any thread may take one and let it go.
class Pool {
 public:
  Pool();
  std::shared_ptr<std::byte> take(std::size_t bytes);  // 64-byte aligned; contents are not defined

 private:
  struct State;
  std::shared_ptr<State> state_;  // pieces keep it alive
};

}  // namespace qwen35::cpu
