// Rows of a weight matrix on the way to their blocks: kRowTile of them, one per lane, column by column.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "quantise/format.h"

namespace qwen35 {

// A number for each row; in whole cache lines.
struct alignas(64) LaneArray : std::array<float, kRowTile> {};
using Columns = std::vector<LaneArray>;

class RowTile {
 public:
  RowTile(const BlockFormat& format, std::size_t cols);

  const BlockFormat& format() const noexcept { return *format_; }
  std::size_t cols() const noexcept { return difference.size(); }

  // `rows` of them, at most kRowTile; the rest are zeros.
  void load(const float* values, std::size_t rows);
  // Writes rows of cols / block blocks of `block_bytes`.
  void store(std::size_t rows, std::size_t block_bytes, std::byte* dst) const;

  // The scales of a block from its encoded bytes, one block per lane.
  void take_scales(std::size_t block, const std::byte* encoded, std::size_t block_bytes);
  // What decoding multiplies and adds in a group, after its integers or its block's halves have changed.
  void derive(std::size_t group);

  // What a decoder gives for a column of this group.
  float value(std::size_t col, std::size_t group, std::size_t lane) const noexcept {
    return scale[group][lane] * level[col][lane] + offset[group][lane];
  }

  Columns difference;  // weight - value; the weight itself where a column is not rounded yet
  Columns level;
  Columns scale;  // by group: of a level
  Columns inverse;
  Columns offset;
  Columns block_scale;  // by block: the stored halves
  Columns block_offset;
  Columns group_scale;  // by group: the stored integers
  Columns group_offset;

 private:
  const BlockFormat* format_;
};

}  // namespace qwen35
