// Codes and scales of one tile of rows for the least error d H d^T of each, d what a row's weights are off by.
#pragma once

#include <cstddef>
#include <vector>

#include "quantise/factor.h"
#include "quantise/format.h"
#include "quantise/gemm.h"
#include "quantise/plane.h"
#include "quantise/row_tile.h"

namespace qwen35 {

// One for each thread. Rows do not see each other: a row has the same result in any tile.
class TileSolver {
 public:
  TileSolver(const BlockFormat& format, std::size_t block_bytes, const Factor& factor);

  // Rounds with error feedback, then goes over the columns `sweeps` times again.
  void solve(const float* values, std::size_t rows, unsigned sweeps, std::byte* dst);

 private:
  // Columns [begin, end).
  struct Range {
    std::size_t begin;
    std::size_t end;
    std::size_t size() const noexcept { return end - begin; }
  };

  // Column by column, each aimed where it makes up for the errors before it (Factor::feedback).
  void round_with_feedback();
  // Where the columns of a block would go without rounding, into free_: what its scales are fitted to.
  void aim_freely(Range columns);
  void fit_scales(std::size_t block);
  void round_group(std::size_t group);

  // Coordinate descent, group by group in the order of the columns: first the scale, then every code, each set to the
  // best given all others.
  void sweep();
  void improve_group(std::size_t group);
  void improve_codes(std::size_t group);

  // refit.cpp: the halves of a block that is one group, the integers of a group among several.
  void refit_group(std::size_t group);
  void step_scales(std::size_t group, std::size_t lane, const Plane& plane);
  // Of each row of moments within the columns; zeros where a format has no offset.
  std::vector<float> sums_of_moments(Range columns) const;

  // sums of the columns `to` += matrix[from, to]^T rows, where rows[0] belongs to from.begin.
  void fold(const float* matrix, Range from, const LaneArray* rows, Range to);
  std::size_t groups_per_block() const noexcept { return format_->block / format_->group; }
  Range columns_of_block(std::size_t block) const noexcept;
  Range columns_of_group(std::size_t group) const noexcept;
  LaneArray& sum(std::size_t col) noexcept { return sums_[col - panel_.begin]; }

  const BlockFormat* format_;
  std::size_t block_bytes_;
  const Factor* factor_;
  Gemm gemm_;
  RowTile tile_;
  Range panel_{};    // the columns whose sums are at hand
  Columns sums_;     // feedback: where to aim; sweeps: difference H
  Columns changes_;  // of difference, over one group
  Columns before_;   // difference where a group began
  Columns product_;
  Columns free_;
  std::vector<float> values_;      // of one block, row by row
  std::vector<float> importance_;  // of its columns, once for each row
  std::vector<std::byte> encoded_;
};

}  // namespace qwen35
