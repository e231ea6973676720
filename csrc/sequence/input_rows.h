// Rows that enter the residual stream in the place of embeddings: those of an image.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend/step.h"

namespace qwen35 {

using Digest = std::array<std::byte, 32>;

// Rows in host memory, immutable.
class InputBlock {
 public:
  // rows [n, D]. positions [n] are counted from the one where text would have gone on. `digest` is of everything that
  // rows and positions depend on. Throws InputError for no rows, counts that differ, a value that is not finite, or a
  // part of a position outside [0, n).
  InputBlock(std::vector<float> rows, std::vector<Position> positions, const Digest& digest);

  std::size_t size() const noexcept { return positions_.size(); }
  std::size_t width() const noexcept { return rows_.size() / positions_.size(); }  // D
  const float* row(std::size_t i) const noexcept { return rows_.data() + i * width(); }
  const std::vector<Position>& positions() const noexcept { return positions_; }
  std::uint32_t advance() const noexcept { return advance_; }
  const Digest& digest() const noexcept { return digest_; }

 private:
  std::vector<float> rows_;
  std::vector<Position> positions_;
  std::uint32_t advance_ = 0;  // positions from the first row to the text behind the block
  Digest digest_;
};

// A block in the place of the tokens from `first` on; negative where its first rows were evaluated before.
struct InputRows {
  std::ptrdiff_t first;
  std::shared_ptr<const InputBlock> block;

  std::ptrdiff_t end() const noexcept { return first + static_cast<std::ptrdiff_t>(block->size()); }
};

}  // namespace qwen35
