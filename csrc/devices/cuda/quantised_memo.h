// Which activations of the pass exist in 8 bits too, and where: what one kernel has quantised on the way is not
// quantised again by the next.
#pragma once

#include <array>
#include <cstddef>

#include "devices/cuda/kernel_args.h"
#include "devices/cuda/memory.h"
#include "tensor/tensor.h"

namespace qwen35::cuda {

// Rows of codes that can be there at the same time: of the normed stream, of what a mixer or the experts make of it, of
// the shared expert's.
inline constexpr std::size_t kMostQuantised = 4;

class QuantisedMemo {
 public:
  // Room for so many rows times columns in each place, so that place() allocates nothing.
  void reserve(Memory& memory, std::size_t values);
  static std::size_t bytes(std::size_t values) noexcept;
  std::size_t bytes() const noexcept { return kMostQuantised * bytes(values_); }

  // The codes of x; codes null when there are none.
  QuantisedRows find(Tensor x) const noexcept;
  // A place for the codes of x, which are its codes from now on. Codes null where x has no whole blocks.
  QuantisedRows place(Memory& memory, Tensor x);
  // x is written: codes of what it overlaps are no longer its codes.
  void forget(Tensor x) noexcept;
  void forget_all() noexcept;

 private:
  struct Entry {
    Tensor of{};
    QuantisedRows rows{};
    std::size_t used = 0;
  };

  std::array<Piece, kMostQuantised> memory_;
  std::array<Entry, kMostQuantised> entries_{};
  std::size_t values_ = 0;  // of each place
  std::size_t uses_ = 0;
};

}  // namespace qwen35::cuda
