#include "devices/cuda/memory.h"

#include "base/error.h"

namespace qwen35::cuda {

Memory::~Memory() { free_unused(); }

Piece Memory::take(std::size_t bytes) {
  const std::size_t size = bytes == 0 ? 1 : bytes;
  const std::scoped_lock lock(mutex_);
  CUdeviceptr pointer = 0;
  if (const auto found = unused_.find(size); found != unused_.end()) {
    pointer = found->second;
    unused_.erase(found);
  } else {
    try {
      pointer = context_->allocate(size);
    } catch (const OutOfMemory&) {
      if (unused_.empty()) throw;
      free_unused();
      pointer = context_->allocate(size);
    }
  }
  const auto give_back = [memory = shared_from_this(), pointer, size](std::byte*) { memory->put_back(pointer, size); };
  return {reinterpret_cast<std::byte*>(pointer), give_back};
}

void Memory::put_back(CUdeviceptr pointer, std::size_t bytes) noexcept {
  const std::scoped_lock lock(mutex_);
  try {
    unused_.emplace(bytes, pointer);
  } catch (const std::bad_alloc&) {
    context_->free(pointer);
  }
}

void Memory::free_unused() noexcept {
  for (const auto& [bytes, pointer] : unused_) context_->free(pointer);
  unused_.clear();
}

PinnedBuffer::PinnedBuffer(std::size_t bytes) : bytes_(bytes) {
  void* data = nullptr;
  if (bytes > 0) QWEN35_CUDA(cuMemHostAlloc, &data, bytes, 0);
  data_ = static_cast<std::byte*>(data);
}

PinnedBuffer::~PinnedBuffer() {
  if (data_ != nullptr) opened_driver().functions.cuMemFreeHost(data_);
}

}  // namespace qwen35::cuda
