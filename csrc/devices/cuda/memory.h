// The card's memory in pieces, and memory of the host that the card copies from and to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

#include "devices/cuda/context.h"
#include "tensor/device_ptr.h"

namespace qwen35::cuda {

// An address on the card. Only its number is of use to the host; shared_ptr<std::byte> because pieces are kept in
// Numbered pools.
using Piece = std::shared_ptr<std::byte>;

inline CUdeviceptr address(const void* device_pointer) noexcept {
  return reinterpret_cast<std::uintptr_t>(device_pointer);
}
template <class T>
T* on_card(DevicePtr<T> pointer) noexcept {
  return reinterpret_cast<T*>(pointer.address());
}

// Pieces that come and go. Those of one size are used again, since the driver takes and frees memory slowly and frees
// none while the card works. Any thread may take one and let it go.
class Memory : public std::enable_shared_from_this<Memory> {
 public:
  explicit Memory(std::shared_ptr<Context> context) : context_(std::move(context)) {}
  ~Memory();

  // 256-byte aligned; contents are not defined. Throws OutOfMemory, once what lies unused has been given back.
  Piece take(std::size_t bytes);

 private:
  void put_back(CUdeviceptr pointer, std::size_t bytes) noexcept;
  void free_unused() noexcept;

  std::shared_ptr<Context> context_;
  std::mutex mutex_;
  std::multimap<std::size_t, CUdeviceptr> unused_;
};

// Page-locked: copies to and from it run beside the card's work.
class PinnedBuffer {
 public:
  explicit PinnedBuffer(std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(const PinnedBuffer&) = delete;
  PinnedBuffer& operator=(const PinnedBuffer&) = delete;

  std::byte* data() noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_;
};

}  // namespace qwen35::cuda
