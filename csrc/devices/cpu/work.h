// Memory that operations work in. It is reserved before a pass, for the most that any operation of it asks for, and
// kept from pass to pass.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>

namespace qwen35::cpu {

enum class WorkPart : std::uint8_t {
  kDelta,            // gated_delta_net: one block of tokens per worker
  kAttendParts,      // attend: partial softmaxes
  kAttendQuantised,  // scores and quantised rows of each worker
  kRope,             // norm_rope_append: cos and sin per row of the pass
  kInput,            // products: quantised rows
  kTiles,            // the same, interleaved
  kSharedTiles,      // and those of the shared expert
  kProduct,          // results that need a second step
  kLists,            // which rows go to which places
  kRouting,          // which go to which expert
};

inline constexpr std::size_t kWorkParts = 10;

class WorkBytes {
 public:
  void set(WorkPart part, std::size_t to) noexcept { bytes_[static_cast<std::size_t>(part)] = to; }
  void raise(WorkPart part, std::size_t to) noexcept { set(part, std::max((*this)[part], to)); }
  std::size_t operator[](WorkPart part) const noexcept { return bytes_[static_cast<std::size_t>(part)]; }
  std::size_t total() const noexcept { return std::accumulate(bytes_.begin(), bytes_.end(), std::size_t{0}); }

 private:
  std::array<std::size_t, kWorkParts> bytes_{};
};

class Work {
 public:
  // Throws OutOfMemory; a part then has what it had, or nothing.
  void reserve(const WorkBytes& bytes);

  // 64-byte aligned, until the part is taken again; contents are not defined. Grows a part that is too small, but
  // throws Error during a pass.
  template <class T>
  T* take(WorkPart part, std::size_t count) {
    return reinterpret_cast<T*>(take_bytes(part, count * sizeof(T)));
  }
  std::size_t bytes() const noexcept { return bytes_.total(); }

  // Lives as long as a pass.
  class Fixed {
   public:
    explicit Fixed(Work& work) noexcept : work_(work) { work_.is_fixed_ = true; }
    ~Fixed() { work_.is_fixed_ = false; }
    Fixed(const Fixed&) = delete;
    Fixed& operator=(const Fixed&) = delete;

   private:
    Work& work_;
  };

 private:
  std::byte* take_bytes(WorkPart part, std::size_t bytes);
  void grow(WorkPart part, std::size_t bytes);

  std::array<std::shared_ptr<std::byte>, kWorkParts> memory_;
  WorkBytes bytes_;
  bool is_fixed_ = false;
};

}  // namespace qwen35::cpu
