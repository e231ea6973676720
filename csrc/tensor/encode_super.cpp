// Encoders of the 256-value super-blocks: Q4_K, Q5_K, Q6_K, IQ4_XS. Groups are fitted freely first; then the group
// scales are rounded to their few bits and the super-block scales fitted to them, in turns, always against the error
// of the final codes.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "tensor/blocks.h"
#include "tensor/encoders.h"
#include "tensor/half.h"
#include "tensor/search.h"

namespace qwen35 {
namespace {

constexpr Start kStartsQ4[] = {{0.0f, 15.0f}, {0.3f, 14.7f}, {-0.3f, 15.3f}, {0.6f, 14.4f}, {0.0f, 14.5f},
                               {0.5f, 15.0f}, {0.4f, 15.4f}, {-0.4f, 14.6f}, {0.9f, 14.1f}};
constexpr Start kStartsQ5[] = {{0.0f, 31.0f}, {0.3f, 30.7f}, {-0.3f, 31.3f}, {0.0f, 30.5f}, {0.5f, 31.0f}};
constexpr float kReachesQ6[] = {30.7f, 31.0f, 31.4f, 31.8f, 32.2f, -30.7f, -31.0f, -31.4f, -31.8f, -32.2f};
constexpr float kReachesIq4[] = {98.0f,  106.0f,  113.0f,  120.0f,  127.0f,  135.0f,
                                 -98.0f, -106.0f, -113.0f, -120.0f, -127.0f, -135.0f};
constexpr int kTurns = 2;

float to_half(float value) { return half_to_float(float_to_half(value)); }

// The nearest half-precision number of at least this magnitude. A super-block scale rounded down would clip its largest
// group; among subnormal halves it would vanish while the groups could still use it.
float half_at_least(float value) {
  std::uint16_t half = float_to_half(value);
  if (std::abs(half_to_float(half)) < std::abs(value)) ++half;
  return half_to_float(half);
}

// Weights of one super-block, scaled to a mean of 1 so that sums keep their range; null when all are alike or zero.
const float* normalised(const float* importance, std::array<float, kSuperBlock>& room) {
  if (importance == nullptr) return nullptr;
  float total = 0.0f;
  for (std::size_t i = 0; i < kSuperBlock; ++i) total += importance[i];
  if (!(total > 1e-30f)) return nullptr;
  const float factor = static_cast<float>(kSuperBlock) / total;
  for (std::size_t i = 0; i < kSuperBlock; ++i) room[i] = importance[i] * factor;
  return room.data();
}

float largest(Lanes x) {
  float at[kLanes];
  x.store(at);
  return *std::max_element(at, at + kLanes);
}

// ---- scale and min: Q4_K, Q5_K
// ---------------------------------------------------------------------------------------

// x = scale * scales * q - min * mins, eight groups.
struct AffineSuper {
  float scale;
  float min;
  Lanes scales;
  Lanes mins;
};

template <int kHigh>
Lanes error_of(const Tile<32>& tile, const AffineSuper& fit) {
  return rounding_error<Integers<0, kHigh>>(tile, lanes(fit.scale) * fit.scales,
                                            lanes(0.0f) - lanes(fit.min) * fit.mins);
}

// Tries the neighbours of every group's scale and min and keeps what lowers that group's error.
template <int kHigh>
Lanes step_groups(const Tile<32>& tile, AffineSuper& fit) {
  const Lanes zero = lanes(0.0f), top = lanes(63.0f);
  Lanes error = error_of<kHigh>(tile, fit);
  const AffineSuper centre = fit;
  for (int ds = -1; ds <= 1; ++ds) {
    for (int dm = -1; dm <= 1; ++dm) {
      if (ds == 0 && dm == 0) continue;
      AffineSuper trial = centre;
      trial.scales = clamp(centre.scales + lanes(static_cast<float>(ds)), zero, top);
      trial.mins = clamp(centre.mins + lanes(static_cast<float>(dm)), zero, top);
      const Lanes e = error_of<kHigh>(tile, trial);
      fit.scales = if_less(e, error, trial.scales, fit.scales);
      fit.mins = if_less(e, error, trial.mins, fit.mins);
      error = min(e, error);
    }
  }
  return error;
}

// Least squares for the two super-block scales with codes, group scales and group mins held.
template <int kHigh>
AffineSuper refit_super(const Tile<32>& tile, const AffineSuper& fit) {
  const Lanes inverse = ratio(lanes(1.0f), lanes(fit.scale) * fit.scales);
  const Lanes offset = lanes(fit.min) * fit.mins;
  Lanes aa = lanes(0.0f), ab = aa, bb = aa, xa = aa, xb = aa;
  for (std::size_t i = 0; i < 32; ++i) {
    const Lanes q = Integers<0, kHigh>::nearest((tile.x(i) + offset) * inverse);
    const Lanes a = q * fit.scales;
    const Lanes wa = tile.w(i) * a;
    const Lanes wb = tile.w(i) * fit.mins;
    aa = aa + wa * a;
    ab = ab + wa * fit.mins;
    bb = bb + wb * fit.mins;
    xa = xa + wa * tile.x(i);
    xb = xb + wb * tile.x(i);
  }
  const double saa = sum(aa), sab = sum(ab), sbb = sum(bb), sxa = sum(xa), sxb = sum(xb);
  const double determinant = saa * sbb - sab * sab;
  AffineSuper better = fit;
  if (determinant > 1e-9 * saa * sbb) {
    better.scale = to_half(static_cast<float>((sxa * sbb - sxb * sab) / determinant));
    better.min = to_half(static_cast<float>((sxa * sab - sxb * saa) / determinant));
  } else if (saa > 0.0) {
    better.scale = to_half(static_cast<float>(sxa / saa));
  }
  return better;
}

template <int kHigh>
AffineSuper fit_affine_super(const Tile<32>& tile, std::span<const Start> starts) {
  const AffineFit free = search_affine<kHigh, true>(tile, starts, 2);
  const Lanes zero = lanes(0.0f);
  const Lanes scales = max(free.scale, zero);
  const Lanes mins = max(zero - free.offset, zero);
  AffineSuper fit{half_at_least(largest(scales) / 63.0f), half_at_least(largest(mins) / 63.0f), zero, zero};
  fit.scales = round(clamp(ratio(scales, lanes(fit.scale)), zero, lanes(63.0f)));
  fit.mins = round(clamp(ratio(mins, lanes(fit.min)), zero, lanes(63.0f)));
  for (int turn = 0; turn < kTurns; ++turn) {
    const float error = sum(step_groups<kHigh>(tile, fit));
    const AffineSuper better = refit_super<kHigh>(tile, fit);
    if (better.scale > 0.0f && better.min >= 0.0f && sum(error_of<kHigh>(tile, better)) < error) fit = better;
  }
  return fit;
}

// q[i][group]
template <std::size_t kDepth>
using GroupCodes = std::array<std::array<float, kLanes>, kDepth>;

template <int kHigh, class Block>
GroupCodes<32> encode_affine_super(const float* values, const float* importance, std::span<const Start> starts,
                                   Block& block) {
  std::array<float, kSuperBlock> room;
  Tile<32> tile;
  tile.load(values, normalised(importance, room), kLanes);
  const AffineSuper fit = fit_affine_super<kHigh>(tile, starts);
  block.scale = float_to_half(fit.scale);
  block.min = float_to_half(fit.min);
  float scale[kLanes], min[kLanes];
  fit.scales.store(scale);
  fit.mins.store(min);
  std::uint8_t scales[8], mins[8];
  for (std::size_t g = 0; g < 8; ++g) {
    scales[g] = static_cast<std::uint8_t>(scale[g]);
    mins[g] = static_cast<std::uint8_t>(min[g]);
  }
  pack_scales_mins(scales, mins, block.scales);
  const Lanes inverse = ratio(lanes(1.0f), lanes(fit.scale) * fit.scales);
  const Lanes offset = lanes(fit.min) * fit.mins;
  GroupCodes<32> codes;
  for (std::size_t i = 0; i < 32; ++i) {
    Integers<0, kHigh>::nearest((tile.x(i) + offset) * inverse).store(codes[i].data());
  }
  return codes;
}

unsigned code(const GroupCodes<32>& codes, std::size_t group, std::size_t i) {
  return static_cast<unsigned>(codes[i][group]);
}

// Byte l of the p-th 32 bytes holds groups 2p (low) and 2p + 1 (high).
void pack_group_pairs(const GroupCodes<32>& codes, std::uint8_t (&to)[128]) {
  for (std::size_t p = 0; p < 4; ++p) {
    for (std::size_t l = 0; l < 32; ++l) {
      to[32 * p + l] = static_cast<std::uint8_t>((code(codes, 2 * p, l) & 15) | (code(codes, 2 * p + 1, l) & 15) << 4);
    }
  }
}

// ---- scale only: Q6_K, IQ4_XS
// ----------------------------------------------------------------------------------------

// x = scale * scales * level over kTiles tiles of eight groups.
template <std::size_t kTiles>
struct ScaledSuper {
  float scale;
  std::array<Lanes, kTiles> scales;
};

template <class Levels, std::size_t kDepth, std::size_t kTiles>
float error_of(const std::array<Tile<kDepth>, kTiles>& tiles, const ScaledSuper<kTiles>& fit) {
  float error = 0.0f;
  for (std::size_t t = 0; t < kTiles; ++t) {
    error += sum(rounding_error<Levels>(tiles[t], lanes(fit.scale) * fit.scales[t], lanes(0.0f)));
  }
  return error;
}

template <class Levels, std::size_t kDepth>
Lanes step_scales(const Tile<kDepth>& tile, float scale, Lanes& scales, Lanes low, Lanes high) {
  const Lanes centre = scales;
  Lanes error = rounding_error<Levels>(tile, lanes(scale) * centre, lanes(0.0f));
  for (const float step : {-1.0f, 1.0f}) {
    const Lanes trial = clamp(centre + lanes(step), low, high);
    const Lanes e = rounding_error<Levels>(tile, lanes(scale) * trial, lanes(0.0f));
    scales = if_less(e, error, trial, scales);
    error = min(e, error);
  }
  return error;
}

template <class Levels, std::size_t kDepth, std::size_t kTiles>
float refit_scale(const std::array<Tile<kDepth>, kTiles>& tiles, const ScaledSuper<kTiles>& fit) {
  double xa = 0.0, aa = 0.0;
  for (std::size_t t = 0; t < kTiles; ++t) {
    const Lanes inverse = ratio(lanes(1.0f), lanes(fit.scale) * fit.scales[t]);
    Lanes lane_xa = lanes(0.0f), lane_aa = lanes(0.0f);
    for (std::size_t i = 0; i < kDepth; ++i) {
      const Lanes a = fit.scales[t] * Levels::nearest(tiles[t].x(i) * inverse);
      const Lanes wa = tiles[t].w(i) * a;
      lane_xa = lane_xa + wa * tiles[t].x(i);
      lane_aa = lane_aa + wa * a;
    }
    xa += sum(lane_xa);
    aa += sum(lane_aa);
  }
  return aa > 0.0 ? to_half(static_cast<float>(xa / aa)) : fit.scale;
}

// Group scales are integers kLow..kHigh. The largest of them goes to kLow, the longer side.
template <class Levels, int kLow, int kHigh, std::size_t kDepth, std::size_t kTiles>
ScaledSuper<kTiles> fit_scaled_super(const std::array<Tile<kDepth>, kTiles>& tiles, std::span<const float> reaches) {
  const Lanes low = lanes(kLow), high = lanes(kHigh);
  ScaledSuper<kTiles> fit{};
  float extreme = 0.0f;
  for (std::size_t t = 0; t < kTiles; ++t) {
    fit.scales[t] = search_scale<Levels>(tiles[t], reaches, 2);
    const float most = largest(fit.scales[t]), least = -largest(lanes(0.0f) - fit.scales[t]);
    if (std::abs(most) > std::abs(extreme)) extreme = most;
    if (std::abs(least) > std::abs(extreme)) extreme = least;
  }
  fit.scale = half_at_least(extreme / static_cast<float>(kLow));
  for (Lanes& scales : fit.scales) scales = round(clamp(ratio(scales, lanes(fit.scale)), low, high));
  for (int turn = 0; turn < kTurns; ++turn) {
    float error = 0.0f;
    for (std::size_t t = 0; t < kTiles; ++t) {
      error += sum(step_scales<Levels>(tiles[t], fit.scale, fit.scales[t], low, high));
    }
    ScaledSuper<kTiles> better = fit;
    better.scale = refit_scale<Levels>(tiles, fit);
    if (error_of<Levels>(tiles, better) < error) fit = better;
  }
  return fit;
}

// levels[group][i] of the final rounding.
template <class Levels, std::size_t kDepth, std::size_t kTiles>
std::array<std::array<float, kDepth>, kTiles * kLanes> round_super(const std::array<Tile<kDepth>, kTiles>& tiles,
                                                                   const ScaledSuper<kTiles>& fit) {
  std::array<std::array<float, kDepth>, kTiles * kLanes> levels;
  for (std::size_t t = 0; t < kTiles; ++t) {
    const Lanes inverse = ratio(lanes(1.0f), lanes(fit.scale) * fit.scales[t]);
    for (std::size_t i = 0; i < kDepth; ++i) {
      float row[kLanes];
      Levels::nearest(tiles[t].x(i) * inverse).store(row);
      for (std::size_t lane = 0; lane < kLanes; ++lane) levels[t * kLanes + lane][i] = row[lane];
    }
  }
  return levels;
}

void encode_block(const float* values, const float* importance, BlockQ4_K& block) {
  pack_group_pairs(encode_affine_super<15>(values, importance, kStartsQ4, block), block.codes);
}

void encode_block(const float* values, const float* importance, BlockQ5_K& block) {
  const GroupCodes<32> codes = encode_affine_super<31>(values, importance, kStartsQ5, block);
  pack_group_pairs(codes, block.codes);
  for (std::size_t l = 0; l < 32; ++l) {
    unsigned bits = 0;
    for (std::size_t g = 0; g < 8; ++g) bits |= (code(codes, g, l) >> 4) << g;
    block.high[l] = static_cast<std::uint8_t>(bits);
  }
}

void encode_block(const float* values, const float* importance, BlockQ6_K& block) {
  using Levels = Integers<-32, 31>;
  std::array<float, kSuperBlock> room;
  const float* weights = normalised(importance, room);
  std::array<Tile<16>, 2> tiles;
  tiles[0].load(values, weights, kLanes);
  tiles[1].load(values + 128, weights == nullptr ? nullptr : weights + 128, kLanes);
  const auto fit = fit_scaled_super<Levels, -128, 127>(tiles, kReachesQ6);
  const auto levels = round_super<Levels>(tiles, fit);
  block.scale = float_to_half(fit.scale);
  for (std::size_t t = 0; t < 2; ++t) {
    float scales[kLanes];
    fit.scales[t].store(scales);
    for (std::size_t g = 0; g < kLanes; ++g) block.scales[t * kLanes + g] = static_cast<std::int8_t>(scales[g]);
  }
  const auto q = [&](std::size_t i) { return static_cast<unsigned>(static_cast<int>(levels[i / 16][i % 16]) + 32); };
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t l = 0; l < 64; ++l) {
      block.codes[64 * h + l] = static_cast<std::uint8_t>((q(128 * h + l) & 15) | (q(128 * h + 64 + l) & 15) << 4);
    }
    for (std::size_t l = 0; l < 32; ++l) {
      unsigned bits = 0;
      for (std::size_t s = 0; s < 4; ++s) bits |= (q(128 * h + 32 * s + l) >> 4) << (2 * s);
      block.high[32 * h + l] = static_cast<std::uint8_t>(bits);
    }
  }
}

void encode_block(const float* values, const float* importance, BlockIQ4_XS& block) {
  std::array<float, kSuperBlock> room;
  std::array<Tile<32>, 1> tiles;
  tiles[0].load(values, normalised(importance, room), kLanes);
  const auto fit = fit_scaled_super<Iq4Levels, -32, 31>(tiles, kReachesIq4);
  const auto levels = round_super<Iq4Levels>(tiles, fit);
  block.scale = float_to_half(fit.scale);
  float scales[kLanes];
  fit.scales[0].store(scales);
  unsigned high = 0;
  unsigned s[kLanes];
  for (std::size_t g = 0; g < kLanes; ++g) {
    s[g] = static_cast<unsigned>(static_cast<int>(scales[g]) + 32);
    high |= (s[g] >> 4) << (2 * g);
    for (std::size_t j = 0; j < 16; ++j) {
      block.codes[16 * g + j] =
          static_cast<std::uint8_t>(Iq4Levels::code(levels[g][j]) | Iq4Levels::code(levels[g][j + 16]) << 4);
    }
  }
  block.scales_high = static_cast<std::uint16_t>(high);
  for (std::size_t j = 0; j < 4; ++j) {
    block.scales_low[j] = static_cast<std::uint8_t>((s[2 * j] & 15) | (s[2 * j + 1] & 15) << 4);
  }
}

template <class Block>
void encode_blocks(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  for (std::size_t i = 0; i < n / kSuperBlock; ++i) {
    Block block;
    encode_block(values + i * kSuperBlock, importance == nullptr ? nullptr : importance + i * kSuperBlock, block);
    std::memcpy(dst + i * sizeof(Block), &block, sizeof(Block));
  }
}

}  // namespace

void encode_q4_k(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_blocks<BlockQ4_K>(values, importance, n, dst);
}
void encode_q5_k(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_blocks<BlockQ5_K>(values, importance, n, dst);
}
void encode_q6_k(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_blocks<BlockQ6_K>(values, importance, n, dst);
}
void encode_iq4_xs(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_blocks<BlockIQ4_XS>(values, importance, n, dst);
}

}  // namespace qwen35
