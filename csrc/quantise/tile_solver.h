// Codes and scales of one tile of rows for the least error d H d^T of each, d what a row's weights are off by.
#pragma once

#include <cstddef>
#include <vector>

#include "quantise/factor.h"
#include "quantise/format.h"
#include "quantise/gemm.h"
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
  // Where the columns of a block would go without rounding, into product_: what its scales are fitted to.
  void aim_freely(Range columns);
  void fit_scales(std::size_t block);
  void round_group(std::size_t group);

  // Coordinate descent, in the order of the columns: every code is set to the best given all others; before the codes
  // of a block its halves, and before those of a group its integers.
  void sweep();
  void improve_group(std::size_t group);

  // Codes held (refit.cpp): halves by least squares, then to half precision; integers by whole steps.
  void refit_block(std::size_t block);
  void refit_group(std::size_t group);
  const Columns& product_with_moments(Range columns, const Columns& basis);

  // sums of the columns `to` += matrix[from, to]^T rows, where rows[0] belongs to from.begin.
  void fold(const float* matrix, Range from, const LaneArray* rows, Range to);
  // Around a change of scales: keeps what decoding gives, and brings differences and sums up to date.
  void keep_values(Range columns);
  void take_new_values(Range columns);

  std::size_t groups_per_block() const noexcept { return format_->block / format_->group; }
  Range columns_of_block(std::size_t block) const noexcept;
  Range columns_of_group(std::size_t group) const noexcept;
  LaneArray& sum(std::size_t col) noexcept { return sums_[col - panel_.begin]; }
  LaneArray& change(std::size_t col) noexcept { return changes_[col - panel_.begin]; }

  const BlockFormat* format_;
  std::size_t block_bytes_;
  const Factor* factor_;
  Gemm gemm_;
  RowTile tile_;
  Range panel_{};    // the columns whose sums are at hand
  Columns sums_;     // feedback: where to aim; sweeps: difference H
  Columns changes_;  // of difference
  Columns basis_;
  Columns product_;
  std::vector<float> values_;      // of one block, row by row
  std::vector<float> importance_;  // of its columns, once for each row
  std::vector<std::byte> encoded_;
};

}  // namespace qwen35
