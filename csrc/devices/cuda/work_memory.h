// Memory that one operation works in. It is reserved before a pass for the most that any operation asks for, and kept.
#pragma once

#include <cstddef>

#include "devices/cuda/memory.h"

namespace qwen35::cuda {

class WorkMemory {
 public:
  void reserve(Memory& memory, std::size_t bytes) {
    if (bytes <= bytes_) return;
    memory_ = memory.take(bytes);
    bytes_ = bytes;
  }
  // Until it is taken again. Grows where an operation is called without a reserve().
  template <class T>
  T* take(Memory& memory, std::size_t count) {
    reserve(memory, count * sizeof(T));
    return reinterpret_cast<T*>(memory_.get());
  }
  // What was reserved; null where nothing was.
  template <class T>
  T* get() const noexcept {
    return reinterpret_cast<T*>(memory_.get());
  }
  std::size_t bytes() const noexcept { return bytes_; }

 private:
  Piece memory_;
  std::size_t bytes_ = 0;
};

}  // namespace qwen35::cuda
