#include "quantise/tile_solver.h"

#include <algorithm>

#include "tensor/half.h"
#include "tensor/lanes.h"

namespace qwen35 {
namespace {

// Columns whose sums are computed together by one matrix product over all others: a multiple of every block.
constexpr std::size_t kPanel = 256;

void fill_zero(LaneArray* columns, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) columns[i].fill(0.0f);
}

}  // namespace

TileSolver::TileSolver(const BlockFormat& format, std::size_t block_bytes, const Factor& factor)
    : format_(&format),
      block_bytes_(block_bytes),
      factor_(&factor),
      tile_(format, factor.cols()),
      sums_(kPanel),
      changes_(format.group),
      before_(format.group),
      product_(kPanel),
      free_(kPanel),
      values_(kRowTile * format.block),
      importance_(values_.size()),
      encoded_(kRowTile * block_bytes) {}

void TileSolver::solve(const float* values, std::size_t rows, unsigned sweeps, std::byte* dst) {
  tile_.load(values, rows);
  round_with_feedback();
  for (unsigned i = 0; i < sweeps; ++i) sweep();
  tile_.store(rows, block_bytes_, dst);
}

void TileSolver::round_with_feedback() {
  const std::size_t cols = tile_.cols(), blocks_per_panel = kPanel / format_->block;
  for (panel_.begin = 0; panel_.begin < cols; panel_.begin = panel_.end) {
    panel_.end = std::min(cols, panel_.begin + kPanel);
    std::copy_n(tile_.difference.data() + panel_.begin, panel_.size(), sums_.data());
    fold(factor_->feedback(), {0, panel_.begin}, tile_.difference.data(), panel_);
    const std::size_t first = panel_.begin / format_->block;
    for (std::size_t block = first; block < first + blocks_per_panel && block * format_->block < cols; ++block) {
      fit_scales(block);
      for (std::size_t g = 0; g < groups_per_block(); ++g) round_group(block * groups_per_block() + g);
    }
  }
}

void TileSolver::aim_freely(Range columns) {
  Columns& aims = free_;
  Columns& differences = product_;
  std::copy_n(&sum(columns.begin), columns.size(), aims.data());
  const float* matrix = factor_->feedback() + columns.begin * tile_.cols();
  for (std::size_t i = 0; i < columns.size(); ++i) {
    gemm_.kernels().combine(i, matrix + columns.begin + i, tile_.cols(), differences[0].data(), aims[i].data());
    const LaneArray& weight = tile_.difference[columns.begin + i];
    for (std::size_t lane = 0; lane < kRowTile; ++lane) differences[i][lane] = weight[lane] - aims[i][lane];
  }
}

void TileSolver::fit_scales(std::size_t block) {
  const Range columns = columns_of_block(block);
  aim_freely(columns);
  double total = 0.0;
  for (std::size_t col = columns.begin; col < columns.end; ++col) total += static_cast<double>(factor_->left()[col]);
  const auto unit = static_cast<float>(static_cast<double>(columns.size()) / total);
  for (std::size_t lane = 0; lane < kRowTile; ++lane) {
    for (std::size_t i = 0; i < columns.size(); ++i) {
      // Feedback may aim beyond what halves hold.
      values_[lane * columns.size() + i] = std::clamp(free_[i][lane], -kHalfMax, kHalfMax);
      importance_[lane * columns.size() + i] = factor_->left()[columns.begin + i] * unit;
    }
  }
  format_->encode(values_.data(), importance_.data(), values_.size(), encoded_.data());
  tile_.take_scales(block, encoded_.data(), block_bytes_);
}

void TileSolver::round_group(std::size_t group) {
  const Range columns = columns_of_group(group);
  const float* matrix = factor_->feedback() + columns.begin * tile_.cols();
  for (std::size_t col = columns.begin; col < columns.end; ++col) {
    gemm_.kernels().combine(col - columns.begin, matrix + col, tile_.cols(), tile_.difference[columns.begin].data(),
                            sum(col).data());
    format_->nearest(sum(col).data(), tile_.inverse[group].data(), tile_.offset[group].data(), tile_.level[col].data());
    for (std::size_t lane = 0; lane < kRowTile; ++lane) tile_.difference[col][lane] -= tile_.value(col, group, lane);
  }
  fold(factor_->feedback(), columns, tile_.difference.data() + columns.begin, {columns.end, panel_.end});
}

void TileSolver::sweep() {
  const std::size_t cols = tile_.cols(), groups = cols / format_->group;
  for (panel_.begin = 0; panel_.begin < cols; panel_.begin = panel_.end) {
    panel_.end = std::min(cols, panel_.begin + kPanel);
    fill_zero(sums_.data(), panel_.size());
    fold(factor_->moments(), {0, cols}, tile_.difference.data(), panel_);
    for (std::size_t g = panel_.begin / format_->group; g < groups && g * format_->group < panel_.end; ++g) {
      improve_group(g);
    }
  }
}

void TileSolver::improve_group(std::size_t group) {
  const Range columns = columns_of_group(group);
  std::copy_n(&tile_.difference[columns.begin], columns.size(), before_.data());
  refit_group(group);
  improve_codes(group);
  for (std::size_t i = 0; i < columns.size(); ++i) {
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      changes_[i][lane] = tile_.difference[columns.begin + i][lane] - before_[i][lane];
    }
  }
  fold(factor_->moments(), columns, changes_.data(), {columns.end, panel_.end});
}

void TileSolver::improve_codes(std::size_t group) {
  const Range columns = columns_of_group(group);
  const float* matrix = factor_->moments() + columns.begin * tile_.cols();
  for (std::size_t col = columns.begin; col < columns.end; ++col) {
    const std::size_t i = col - columns.begin;
    gemm_.kernels().combine(i, matrix + col, tile_.cols(), changes_[0].data(), sum(col).data());
    const float step = 1.0f / factor_->moments()[col * tile_.cols() + col];
    LaneArray before, target;
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      before[lane] = tile_.value(col, group, lane);
      target[lane] = before[lane] + sum(col)[lane] * step;
    }
    format_->nearest(target.data(), tile_.inverse[group].data(), tile_.offset[group].data(), tile_.level[col].data());
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      changes_[i][lane] = before[lane] - tile_.value(col, group, lane);
      tile_.difference[col][lane] += changes_[i][lane];
    }
  }
}

void TileSolver::fold(const float* matrix, Range from, const LaneArray* rows, Range to) {
  if (from.size() == 0 || to.size() == 0) return;
  const std::size_t cols = tile_.cols();
  gemm_.add(to.size(), kRowTile, from.size(), {matrix + from.begin * cols + to.begin, 1, cols},
            {rows->data(), kRowTile, 1}, sum(to.begin).data(), kRowTile);
}

TileSolver::Range TileSolver::columns_of_block(std::size_t block) const noexcept {
  return {block * format_->block, (block + 1) * format_->block};
}

TileSolver::Range TileSolver::columns_of_group(std::size_t group) const noexcept {
  return {group * format_->group, (group + 1) * format_->group};
}

}  // namespace qwen35
