#include "memory.h"

#include <cstdlib>
#include <cstring>
#include <new>

namespace simt {

namespace {

constexpr std::size_t kUnit = 512;  // blocks begin at its multiples and take whole ones

std::size_t taken(std::size_t bytes) { return (bytes + kUnit - 1) / kUnit * kUnit; }

}  // namespace

void* Memory::allocate(std::size_t bytes, std::size_t most) {
  if (bytes > most || used_ + taken(bytes) > most) return nullptr;
  void* at = nullptr;
  if (posix_memalign(&at, kUnit, bytes)) throw std::bad_alloc();
  std::memset(at, 0xff, bytes);
  blocks_[static_cast<unsigned char*>(at)] = bytes;
  used_ += taken(bytes);
  return at;
}

bool Memory::free(void* at) {
  const auto block = blocks_.find(static_cast<unsigned char*>(at));
  if (block == blocks_.end()) return false;
  used_ -= taken(block->second);
  blocks_.erase(block);
  std::free(at);
  return true;
}

bool Memory::holds(const void* at, std::size_t bytes) const {
  const auto* first = static_cast<const unsigned char*>(at);
  auto block = blocks_.upper_bound(first);
  if (block == blocks_.begin()) return false;
  --block;
  return first + bytes <= block->first + block->second;
}

}  // namespace simt
