#include "devices/cpu/arena.h"

#include <algorithm>
#include <new>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace qwen35::cpu {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr std::size_t kBlock = 16 * kHugePage;  // what is not used of it is not touched either

constexpr std::size_t round_up(std::size_t bytes, std::size_t unit) { return (bytes + unit - 1) / unit * unit; }

}  // namespace

std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes) {
  const std::align_val_t alignment{bytes >= kHugePage ? kHugePage : kLine};
  auto* memory = static_cast<std::byte*>(::operator new(bytes, alignment));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Whole pages only; a refusal costs nothing but speed.
  if (bytes >= kHugePage) (void)madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return {memory, [alignment](std::byte* p) { ::operator delete(p, alignment); }};
}

std::shared_ptr<std::byte> Arena::take(std::size_t bytes) {
  bytes = round_up(bytes, kLine);
  taken_ += bytes;
  if (bytes > bytes_ - used_) {
    // The end of a block's last huge page is lost, so the more there is, the larger are the blocks.
    const std::size_t block = std::max(kBlock, round_up(taken_ / 4, kHugePage));
    if (bytes >= block) return allocate_bytes(bytes);
    block_ = allocate_bytes(block);
    bytes_ = block;
    used_ = 0;
  }
  std::shared_ptr<std::byte> piece(block_, block_.get() + used_);
  used_ += bytes;
  return piece;
}

}  // namespace qwen35::cpu
