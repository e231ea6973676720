// The scale and offset of a group fitted anew, codes held, for the least d H d^T of each row.
#include <algorithm>
#include <cmath>

#include "quantise/plane.h"
#include "quantise/tile_solver.h"
#include "tensor/half.h"

namespace qwen35 {
namespace {

// The sums of every row's plane over the columns of a group.
struct Planes {
  LaneArray ud{}, vd{}, uu{}, uv{}, vv{};

  // One column: u, v and their products with H over the group, and H d.
  void add(const LaneArray& u, const LaneArray& hu, float v, float hv, const LaneArray& hd) noexcept {
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      ud[lane] += u[lane] * hd[lane];
      vd[lane] += v * hd[lane];
      uu[lane] += u[lane] * hu[lane];
      uv[lane] += v * hu[lane];
      vv[lane] += v * hv;
    }
  }
  Plane of(std::size_t lane) const noexcept { return {ud[lane], vd[lane], uu[lane], uv[lane], vv[lane]}; }
};

double to_half(double value) noexcept {
  return static_cast<double>(half_to_float(float_to_half(static_cast<float>(value))));
}

// Of a block that is one group. The scale stays on its side of zero.
struct Halves {
  float scale;
  float offset;
};

Halves better_halves(const Plane& plane, Halves now) noexcept {
  const double scale = now.scale, offset = now.offset;
  Halves best = now;
  double most = 0.0;
  const auto consider = [&](double next_scale, double next_offset) {
    const bool allowed =
        scale * next_scale > 0.0 && std::abs(next_scale) <= kHalfMax && std::abs(next_offset) <= kHalfMax;
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

// Of a group in a block of several.
struct GroupIntegers {
  float scale;
  float offset;
};

double stepped(double now, double by, Steps steps) noexcept {
  return std::clamp(std::nearbyint(now + by), static_cast<double>(steps.least), static_cast<double>(steps.most));
}

// `unit`: what a step of the scale, and of the offset, moves along u and v.
GroupIntegers better_integers(const Plane& plane, GroupIntegers now, Step unit, const BlockFormat& format) noexcept {
  GroupIntegers best = now;
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

std::vector<float> TileSolver::sums_of_moments(Range columns) const {
  std::vector<float> sums(columns.size(), 0.0f);
  for (std::size_t i = 0; format_->has_offset && i < columns.size(); ++i) {
    const float* row = factor_->moments() + (columns.begin + i) * tile_.cols() + columns.begin;
    for (std::size_t k = 0; k < columns.size(); ++k) sums[i] += row[k];
  }
  return sums;
}

void TileSolver::refit_group(std::size_t group) {
  const Range columns = columns_of_group(group);
  const std::size_t n = columns.size(), cols = tile_.cols();
  // u: the levels, v: one.
  const LaneArray* levels = &tile_.level[columns.begin];
  const std::vector<float> hv = sums_of_moments(columns);
  for (std::size_t i = 0; i < n; ++i) product_[i].fill(0.0f);
  gemm_.add(n, kRowTile, n, {factor_->moments() + columns.begin * (cols + 1), 1, cols}, {levels->data(), kRowTile, 1},
            product_[0].data(), kRowTile);
  Planes planes;
  const float v = format_->has_offset ? 1.0f : 0.0f;
  for (std::size_t i = 0; i < n; ++i) planes.add(levels[i], product_[i], v, hv[i], sum(columns.begin + i));

  const LaneArray scale = tile_.scale[group], offset = tile_.offset[group];
  for (std::size_t lane = 0; lane < kRowTile; ++lane) step_scales(group, lane, planes.of(lane));
  tile_.derive(group);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      const float x = tile_.scale[group][lane] - scale[lane], y = tile_.offset[group][lane] - offset[lane];
      const float before = scale[lane] * levels[i][lane] + offset[lane];
      tile_.difference[columns.begin + i][lane] += before - tile_.value(columns.begin + i, group, lane);
      sum(columns.begin + i)[lane] -= x * product_[i][lane] + y * hv[i];
    }
  }
}

void TileSolver::step_scales(std::size_t group, std::size_t lane, const Plane& plane) {
  const std::size_t block = group / groups_per_block();
  float& half = tile_.block_scale[block][lane];
  float& half_offset = tile_.block_offset[block][lane];
  if (groups_per_block() == 1) {
    const Halves better = better_halves(plane, {half, half_offset});
    half = better.scale;
    half_offset = better.offset;
    return;
  }
  float& scale = tile_.group_scale[group][lane];
  float& offset = tile_.group_offset[group][lane];
  const GroupIntegers better = better_integers(plane, {scale, offset}, {half, half_offset}, *format_);
  scale = better.scale;
  offset = better.offset;
}

}  // namespace qwen35
