// Internal to tensor/: the least-squares searches behind the encoders. Eight groups of weights are fitted at once, one
// per lane, so that sums run down a column and come out the same however wide the machine's registers are.
//
// All searches minimise sum w (x - y)^2 over the group's weights x and their decoded values y.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tensor/blocks.h"
#include "tensor/lanes.h"

namespace qwen35 {

// kDepth weights of eight groups, transposed: row i holds the i-th weight of each group.
template <std::size_t kDepth>
struct Tile {
  static constexpr std::size_t kValues = kDepth * kLanes;
  float values[kDepth][kLanes];
  float weights[kDepth][kLanes];

  Lanes x(std::size_t i) const noexcept { return Lanes::load(values[i]); }
  Lanes w(std::size_t i) const noexcept { return Lanes::load(weights[i]); }

  // `groups` (at most kLanes) groups that lie one behind the other; the other lanes become zeros. A group whose
  // importance is zero throughout counts every weight alike.
  void load(const float* source, const float* importance, std::size_t groups) noexcept {
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      const float* from = source + lane * kDepth;
      const float* w = importance == nullptr ? nullptr : importance + lane * kDepth;
      const bool used = lane < groups;
      float total = 0.0f;
      for (std::size_t i = 0; i < kDepth && used && w != nullptr; ++i) total += w[i];
      for (std::size_t i = 0; i < kDepth; ++i) {
        values[i][lane] = used ? from[i] : 0.0f;
        weights[i][lane] = total > 0.0f ? w[i] : 1.0f;
      }
    }
  }
};

// Integers kLow..kHigh. `nearest` takes x / scale and gives the level as a number.
template <int kLow, int kHigh>
struct Integers {
  static Lanes nearest(Lanes t) noexcept { return round(clamp(t, lanes(kLow), lanes(kHigh))); }
};

// The sixteen levels of kIq4Values. A level is chosen by counting the midpoints at or below t.
struct Iq4Levels {
  static Lanes nearest(Lanes t) noexcept {
    Lanes level = lanes(kIq4Values[0]);
    for (std::size_t i = 0; i + 1 < 16; ++i) {
      const float middle = 0.5f * static_cast<float>(kIq4Values[i] + kIq4Values[i + 1]);
      level = level + mask_less(lanes(middle), t, lanes(static_cast<float>(kIq4Values[i + 1] - kIq4Values[i])));
    }
    return level;
  }
  // The position of a level in kIq4Values.
  static std::uint8_t code(float level) noexcept {
    std::uint8_t code = 0;
    while (static_cast<float>(kIq4Values[code]) < level) ++code;
    return code;
  }
};

template <std::size_t kDepth>
Lanes largest_magnitude(const Tile<kDepth>& tile) noexcept {
  Lanes most = lanes(0.0f);
  for (std::size_t i = 0; i < kDepth; ++i) most = max(most, max(tile.x(i), lanes(0.0f) - tile.x(i)));
  return most;
}

// A scale per lane and the error it leaves.
struct ScaleFit {
  Lanes scale;
  Lanes error;
};

// Rounds to the levels of scale 1 / inverse, then solves for the scale that fits those levels best. Sums run over the
// rounding residue u = x * inverse - level, which keeps them exact enough for 8-bit levels.
template <class Levels, std::size_t kDepth>
ScaleFit fit_scale(const Tile<kDepth>& tile, Lanes inverse) noexcept {
  Lanes uu = lanes(0.0f), ul = lanes(0.0f), ll = lanes(0.0f);
  for (std::size_t i = 0; i < kDepth; ++i) {
    const Lanes t = tile.x(i) * inverse;
    const Lanes level = Levels::nearest(t);
    const Lanes u = t - level;
    const Lanes wu = tile.w(i) * u;
    uu = uu + wu * u;
    ul = ul + wu * level;
    ll = ll + tile.w(i) * level * level;
  }
  const Lanes one = lanes(1.0f);
  const Lanes scale = ratio(one, inverse);
  const Lanes change = ratio(ul, ll);
  return {scale * (one + change), scale * scale * (uu - change * ul)};
}

// The best scale with x = scale * level. Each reach puts the group's largest magnitude at that level (of either sign);
// the winner is refined by `refits` rounds of rounding and solving.
template <class Levels, std::size_t kDepth>
Lanes search_scale(const Tile<kDepth>& tile, std::span<const float> reaches, int refits) noexcept {
  const Lanes per_level = ratio(lanes(1.0f), largest_magnitude(tile));
  ScaleFit best{lanes(0.0f), lanes(3e38f)};
  const auto keep_better = [&best](const ScaleFit& fit) {
    best.scale = if_less(fit.error, best.error, fit.scale, best.scale);
    best.error = min(fit.error, best.error);
  };
  for (const float reach : reaches) keep_better(fit_scale<Levels>(tile, per_level * lanes(reach)));
  for (int i = 0; i < refits; ++i) keep_better(fit_scale<Levels>(tile, ratio(lanes(1.0f), best.scale)));
  return best.scale;
}

// x = scale * level + offset.
struct AffineFit {
  Lanes scale;
  Lanes offset;
  Lanes error;
};

// Rounds to levels 0..kHigh of the given scale and offset, then solves for both. With kNegative the offset is held at
// or below zero, as the K types store it.
template <int kHigh, bool kNegative, std::size_t kDepth>
AffineFit fit_affine(const Tile<kDepth>& tile, Lanes inverse, Lanes offset) noexcept {
  const Lanes zero = lanes(0.0f);
  Lanes uu = zero, ul = zero, ll = zero, u1 = zero, l1 = zero, w1 = zero;
  for (std::size_t i = 0; i < kDepth; ++i) {
    const Lanes t = (tile.x(i) - offset) * inverse;
    const Lanes level = Integers<0, kHigh>::nearest(t);
    const Lanes u = t - level;
    const Lanes wu = tile.w(i) * u;
    const Lanes wl = tile.w(i) * level;
    uu = uu + wu * u;
    ul = ul + wu * level;
    u1 = u1 + wu;
    ll = ll + wl * level;
    l1 = l1 + wl;
    w1 = w1 + tile.w(i);
  }
  // u = slope * level + shift in the least-squares sense; 0 / 0 (all levels equal) leaves the slope alone.
  const Lanes scale = ratio(lanes(1.0f), inverse);
  Lanes slope = ratio(w1 * ul - l1 * u1, w1 * ll - l1 * l1);
  Lanes shift = ratio(u1 - slope * l1, w1);
  if constexpr (kNegative) {
    const Lanes most = zero - offset * inverse;  // the shift that brings the offset to zero
    const Lanes held = min(shift, most);
    slope = if_less(held, shift, ratio(ul - held * l1, ll), slope);
    shift = held;
  }
  const Lanes left = uu - lanes(2.0f) * (slope * ul + shift * u1) + slope * slope * ll +
                     lanes(2.0f) * slope * shift * l1 + shift * shift * w1;
  return {scale * (lanes(1.0f) + slope), offset + scale * shift, scale * scale * left};
}

// Where a search starts: the group's minimum moved up by `lift` levels, its maximum put at level `reach`.
struct Start {
  float lift;
  float reach;
};

template <int kHigh, bool kNegative, std::size_t kDepth>
AffineFit search_affine(const Tile<kDepth>& tile, std::span<const Start> starts, int refits) noexcept {
  Lanes low = tile.x(0), high = tile.x(0);
  for (std::size_t i = 1; i < kDepth; ++i) {
    low = min(low, tile.x(i));
    high = max(high, tile.x(i));
  }
  if constexpr (kNegative) low = min(low, lanes(0.0f));
  const Lanes per_range = ratio(lanes(1.0f), high - low);
  AffineFit best{lanes(0.0f), low, lanes(3e38f)};
  const auto keep_better = [&best](const AffineFit& fit) {
    best.scale = if_less(fit.error, best.error, fit.scale, best.scale);
    best.offset = if_less(fit.error, best.error, fit.offset, best.offset);
    best.error = min(fit.error, best.error);
  };
  for (const Start& start : starts) {
    const Lanes inverse = per_range * lanes(start.reach - start.lift);
    const Lanes offset = low + ratio(lanes(start.lift), inverse);
    keep_better(fit_affine<kHigh, kNegative>(tile, inverse, kNegative ? min(offset, lanes(0.0f)) : offset));
  }
  for (int i = 0; i < refits; ++i) {
    keep_better(fit_affine<kHigh, kNegative>(tile, ratio(lanes(1.0f), best.scale), best.offset));
  }
  return best;
}

// The weighted mean of what rounding with this scale and offset leaves: the best offset for those levels.
template <class Levels, std::size_t kDepth>
Lanes best_offset(const Tile<kDepth>& tile, Lanes scale, Lanes offset) noexcept {
  const Lanes inverse = ratio(lanes(1.0f), scale);
  Lanes rest = lanes(0.0f), weight = lanes(0.0f);
  for (std::size_t i = 0; i < kDepth; ++i) {
    rest = rest + tile.w(i) * (tile.x(i) - scale * Levels::nearest((tile.x(i) - offset) * inverse));
    weight = weight + tile.w(i);
  }
  return ratio(rest, weight);
}

// The error of rounding x = scale * level + offset with exactly this scale and offset.
template <class Levels, std::size_t kDepth>
Lanes rounding_error(const Tile<kDepth>& tile, Lanes scale, Lanes offset) noexcept {
  const Lanes inverse = ratio(lanes(1.0f), scale);
  Lanes total = lanes(0.0f);
  for (std::size_t i = 0; i < kDepth; ++i) {
    const Lanes y = tile.x(i) - offset;
    const Lanes rest = y - scale * Levels::nearest(y * inverse);
    total = total + tile.w(i) * rest * rest;
  }
  return total;
}

}  // namespace qwen35
