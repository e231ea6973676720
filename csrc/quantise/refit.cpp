// Scales fitted anew with the codes held. Off by d, a row costs d H d^T; moving along x u + y v takes
// 2 (x u + y v) H d^T - (x u + y v) H (x u + y v)^T off that.
#include <algorithm>
#include <cmath>

#include "quantise/tile_solver.h"
#include "tensor/half.h"

namespace qwen35 {
namespace {

struct Step {
  double x;
  double y;
};

// The quadratic form of one row in the plane of its two directions u and v.
struct Plane {
  double ud, vd;      // u H d, v H d
  double uu, uv, vv;  // u H u, u H v, v H v

  double gain(Step s) const noexcept {
    return 2.0 * (s.x * ud + s.y * vd) - (s.x * s.x * uu + 2.0 * s.x * s.y * uv + s.y * s.y * vv);
  }
  double best_x() const noexcept { return uu > 0.0 ? ud / uu : 0.0; }
  double best_y(double x) const noexcept { return vv > 0.0 ? (vd - x * uv) / vv : 0.0; }
  // x of the best pair; of x alone where the directions are one.
  double best_x_of_pair() const noexcept {
    const double determinant = uu * vv - uv * uv;
    return determinant > 1e-6 * uu * vv ? (ud * vv - vd * uv) / determinant : best_x();
  }
};

// The five sums for every row: u and v run along the columns, and so do their products with H.
struct Planes {
  std::array<Plane, kRowTile> at{};

  void add(const LaneArray& u, const LaneArray& hu, const LaneArray& v, const LaneArray& hv, const LaneArray& hd) {
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      Plane& plane = at[lane];
      plane.ud += static_cast<double>(u[lane]) * static_cast<double>(hd[lane]);
      plane.vd += static_cast<double>(v[lane]) * static_cast<double>(hd[lane]);
      plane.uu += static_cast<double>(u[lane]) * static_cast<double>(hu[lane]);
      plane.uv += static_cast<double>(v[lane]) * static_cast<double>(hu[lane]);
      plane.vv += static_cast<double>(v[lane]) * static_cast<double>(hv[lane]);
    }
  }
};

double to_half(double value) noexcept {
  return static_cast<double>(half_to_float(float_to_half(static_cast<float>(value))));
}

// Halves that stay on their side of zero, and finite.
bool is_allowed(double now, double next) noexcept { return now * next > 0.0 && std::abs(next) <= kHalfMax; }

struct Halves {
  float scale;
  float offset;
};

Halves better_halves(const Plane& plane, Halves now, bool offset_is_negative) noexcept {
  const double scale = now.scale, offset = now.offset;
  Halves best = now;
  double most = 0.0;
  const auto consider = [&](double next_scale, double next_offset) {
    const bool allowed = is_allowed(scale, next_scale) && std::abs(next_offset) <= kHalfMax &&
                         (!offset_is_negative || next_offset >= 0.0);
    const double gain = allowed ? plane.gain({next_scale - scale, next_offset - offset}) : 0.0;
    if (gain > most) {
      most = gain;
      best = {static_cast<float>(next_scale), static_cast<float>(next_offset)};
    }
  };
  const double pair = to_half(scale + plane.best_x_of_pair());
  consider(pair, to_half(offset + plane.best_y(pair - scale)));
  consider(to_half(scale + plane.best_x()), offset);
  consider(scale, to_half(offset + plane.best_y(0.0)));
  return best;
}

double stepped(double now, double by, Steps steps) noexcept {
  return std::clamp(std::nearbyint(now + by), static_cast<double>(steps.least), static_cast<double>(steps.most));
}

struct Integers2 {
  float scale;
  float offset;
};

// `unit`: what a step of the scale, and of the offset, moves along u and v.
Integers2 better_integers(const Plane& plane, Integers2 now, Step unit, const BlockFormat& format) noexcept {
  Integers2 best = now;
  double most = 0.0;
  const auto consider = [&](double x, bool with_scale, bool with_offset) {
    const double scale = with_scale ? stepped(now.scale, x / unit.x, format.scales) : static_cast<double>(now.scale);
    const double taken = (scale - now.scale) * unit.x;
    const double offset = with_offset ? stepped(now.offset, plane.best_y(taken) / unit.y, format.offsets)
                                      : static_cast<double>(now.offset);
    const double gain = plane.gain({taken, (offset - now.offset) * unit.y});
    if (gain > most) {
      most = gain;
      best = {static_cast<float>(scale), static_cast<float>(offset)};
    }
  };
  const bool scales = unit.x != 0.0, offsets = unit.y != 0.0;
  if (scales && offsets) consider(plane.best_x_of_pair(), true, true);
  if (scales) consider(plane.best_x(), true, false);
  if (offsets) consider(0.0, false, true);
  return best;
}

}  // namespace

const Columns& TileSolver::product_with_moments(Range columns, const Columns& basis) {
  const std::size_t cols = tile_.cols(), n = columns.size();
  for (std::size_t i = 0; i < n; ++i) product_[i].fill(0.0f);
  gemm_.add(n, kRowTile, n, {factor_->moments() + columns.begin * (cols + 1), 1, cols}, {basis[0].data(), kRowTile, 1},
            product_[0].data(), kRowTile);
  return product_;
}

void TileSolver::refit_block(std::size_t block) {
  const Range columns = columns_of_block(block);
  const std::size_t n = columns.size();
  Planes planes;
  Columns offsets(n), product_of_offsets(n);
  if (format_->has_offset) {
    for (std::size_t i = 0; i < n; ++i) offsets[i] = tile_.group_offset[(columns.begin + i) / format_->group];
    product_of_offsets = product_with_moments(columns, offsets);
  }
  for (std::size_t i = 0; i < n; ++i) {
    const LaneArray& scale = tile_.group_scale[(columns.begin + i) / format_->group];
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      basis_[i][lane] = scale[lane] * tile_.level[columns.begin + i][lane];
    }
  }
  const Columns& product = product_with_moments(columns, basis_);
  for (std::size_t i = 0; i < n; ++i) {
    planes.add(basis_[i], product[i], offsets[i], product_of_offsets[i], sum(columns.begin + i));
  }
  keep_values(columns);
  for (std::size_t lane = 0; lane < kRowTile; ++lane) {
    float& scale = tile_.block_scale[block][lane];
    float& offset = tile_.block_offset[block][lane];
    const Halves better = better_halves(planes.at[lane], {scale, offset}, format_->offset_is_negative);
    scale = better.scale;
    offset = better.offset;
  }
  for (std::size_t g = 0; g < groups_per_block(); ++g) tile_.derive(block * groups_per_block() + g);
  take_new_values(columns);
}

void TileSolver::refit_group(std::size_t group) {
  const Range columns = columns_of_group(group);
  const std::size_t block = columns.begin / format_->block, n = columns.size(), cols = tile_.cols();
  std::copy_n(tile_.level.data() + columns.begin, n, basis_.data());
  const Columns& product = product_with_moments(columns, basis_);
  Planes planes;
  for (std::size_t i = 0; i < n; ++i) {
    LaneArray one, row_sum;
    one.fill(format_->has_offset ? 1.0f : 0.0f);
    float total = 0.0f;
    for (std::size_t k = 0; k < n; ++k) total += factor_->moments()[(columns.begin + i) * cols + columns.begin + k];
    row_sum.fill(total);
    planes.add(basis_[i], product[i], one, row_sum, sum(columns.begin + i));
  }
  keep_values(columns);
  for (std::size_t lane = 0; lane < kRowTile; ++lane) {
    float& scale = tile_.group_scale[group][lane];
    float& offset = tile_.group_offset[group][lane];
    const Step unit{tile_.block_scale[block][lane], tile_.block_offset[block][lane]};
    const Integers2 better = better_integers(planes.at[lane], {scale, offset}, unit, *format_);
    scale = better.scale;
    offset = better.offset;
  }
  tile_.derive(group);
  take_new_values(columns);
}

void TileSolver::keep_values(Range columns) {
  for (std::size_t col = columns.begin; col < columns.end; ++col) {
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      change(col)[lane] = tile_.value(col, col / format_->group, lane);
    }
  }
}

void TileSolver::take_new_values(Range columns) {
  for (std::size_t col = columns.begin; col < columns.end; ++col) {
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      change(col)[lane] -= tile_.value(col, col / format_->group, lane);
      tile_.difference[col][lane] += change(col)[lane];
    }
  }
  fold(factor_->moments(), columns, &change(columns.begin), {columns.begin, panel_.end});
}

}  // namespace qwen35
