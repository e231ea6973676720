// Two buffers of page-locked memory: one is filled while the other is on its way to the card.
#pragma once

#include <array>
#include <cstddef>
#include <memory>

#include "devices/cuda/memory.h"

namespace qwen35::cuda {

inline constexpr std::size_t kStagingBytes = std::size_t{32} << 20;  // of weights on their way

class Staging {
 public:
  class Half {
   public:
    ~Half();
    std::byte* data() noexcept { return buffer_->data(); }
    std::size_t bytes() const noexcept { return buffer_ == nullptr ? 0 : buffer_->bytes(); }
    void send(CUdeviceptr to, std::size_t bytes, CUstream stream);

   private:
    friend class Staging;
    void wait(std::size_t least, std::size_t bytes);

    std::unique_ptr<PinnedBuffer> buffer_;
    CUevent sent_ = nullptr;
  };

  explicit Staging(std::size_t bytes) : half_bytes_(bytes / 2) {}
  // The half that was used longest ago, once it has been sent: half the bytes, or `least` where that is more.
  Half& next(std::size_t least);

 private:
  std::size_t half_bytes_;
  std::array<Half, 2> halves_;
  std::size_t turn_ = 0;
};

}  // namespace qwen35::cuda
