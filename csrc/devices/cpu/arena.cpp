#include "devices/cpu/arena.h"

#include <algorithm>
#include <list>
#include <map>
#include <mutex>
#include <new>
#include <string>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

#include "base/error.h"
#include "base/round_up.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kBlock = 16 * kHugePage;
// A size of its own takes a huge page, which is too much for the vector of a norm.
constexpr std::size_t kLeastPooled = std::size_t{64} << 10;

void* aligned_memory(std::size_t bytes, std::align_val_t alignment) {
  try {
    return ::operator new(bytes, alignment);
  } catch (const std::bad_alloc&) {
    throw OutOfMemory("the system has no memory for " + std::to_string(bytes) +
                      " bytes more; take a smaller model or type, fewer context_tokens or kv q4, or close programs");
  }
}

}  // namespace

std::shared_ptr<std::byte> allocate_bytes(std::size_t bytes) {
  const std::align_val_t alignment{bytes >= kHugePage ? kHugePage : kLine};
  auto* memory = static_cast<std::byte*>(aligned_memory(bytes, alignment));
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  // Whole pages only; a refusal costs nothing but speed.
  if (bytes >= kHugePage) (void)madvise(memory, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);
#endif
  return {memory, [alignment](std::byte* p) { ::operator delete(p, alignment); }};
}

struct Pool::State {
  struct Block {
    std::shared_ptr<std::byte> memory;
    std::vector<std::byte*> unused;
    std::size_t pieces;
  };
  using Blocks = std::list<Block>;

  std::mutex mutex;
  std::map<std::size_t, Blocks> by_size;
};

Pool::Pool() : state_(std::make_shared<State>()) {}

std::shared_ptr<std::byte> Pool::take(std::size_t bytes) {
  const std::size_t size = whole_lines(std::max<std::size_t>(bytes, 1));
  if (size >= kBlock || size < kLeastPooled) return allocate_bytes(size);
  const std::scoped_lock lock(state_->mutex);
  State::Blocks& blocks = state_->by_size[size];
  auto block = std::ranges::find_if(blocks, [](const State::Block& b) { return !b.unused.empty(); });
  if (block == blocks.end()) {
    block = blocks.insert(blocks.end(), {allocate_bytes(kBlock), {}, kBlock / size});
    for (std::size_t i = block->pieces; i > 0; --i) block->unused.push_back(block->memory.get() + (i - 1) * size);
  }
  std::byte* piece = block->unused.back();
  std::shared_ptr<std::byte> taken(piece, [state = state_, &blocks, block](std::byte* p) {
    const std::scoped_lock unlock(state->mutex);
    block->unused.push_back(p);
    if (block->unused.size() == block->pieces) blocks.erase(block);
  });
  block->unused.pop_back();
  return taken;
}

std::size_t Arena::block_bytes(std::size_t taken) noexcept { return std::max(kBlock, round_up(taken / 4, kHugePage)); }

std::shared_ptr<std::byte> Arena::take(std::size_t bytes) {
  bytes = whole_lines(bytes);
  taken_ += bytes;
  if (bytes > bytes_ - used_) {
    const std::size_t block = block_bytes(taken_);
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
