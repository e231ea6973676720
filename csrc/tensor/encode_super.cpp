// Encoders of the 256-value super-blocks: Q3_K, Q4_K, Q5_K, Q6_K, IQ4_XS. Groups are fitted freely first; then the
// group scales are rounded to their few bits and the super-block scales fitted to them, in turns, always against the
// error of the final codes.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "tensor/codes.h"
#include "tensor/encoders.h"
#include "tensor/half.h"
#include "tensor/search.h"

namespace qwen35 {
namespace {

constexpr Start kStartsQ4[] = {{0.0f, 15.0f}, {0.3f, 14.7f}, {-0.3f, 15.3f}, {0.6f, 14.4f}, {0.0f, 14.5f},
                               {0.5f, 15.0f}, {0.4f, 15.4f}, {-0.4f, 14.6f}, {0.9f, 14.1f}};
constexpr Start kStartsQ5[] = {{0.0f, 31.0f}, {0.3f, 30.7f}, {-0.3f, 31.3f}, {0.0f, 30.5f}, {0.5f, 31.0f}};
constexpr float kReachesQ3[] = {3.0f, 3.3f, 3.6f, 4.0f, 4.4f, 4.8f, -3.0f, -3.3f, -3.6f, -4.0f, -4.4f, -4.8f};
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

// One byte a value, as pack_codes takes them.
using Codes = std::array<std::uint8_t, kSuperBlock>;

template <int kHigh, class Block>
void encode_affine_super(const float* values, const float* importance, std::span<const Start> starts, Block& block) {
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
  Codes codes;
  for (std::size_t i = 0; i < 32; ++i) {
    float q[kLanes];
    Integers<0, kHigh>::nearest((tile.x(i) + offset) * inverse).store(q);
    for (std::size_t g = 0; g < kLanes; ++g) codes[32 * g + i] = static_cast<std::uint8_t>(q[g]);
  }
  pack_codes(codes.data(), block);
}

// ---- scale only: Q3_K, Q6_K, IQ4_XS
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

// The codes of the final rounding; `code` turns a level into one.
template <class Levels, std::size_t kDepth, std::size_t kTiles, class Code>
Codes round_super(const std::array<Tile<kDepth>, kTiles>& tiles, const ScaledSuper<kTiles>& fit, Code code) {
  Codes codes;
  for (std::size_t t = 0; t < kTiles; ++t) {
    const Lanes inverse = ratio(lanes(1.0f), lanes(fit.scale) * fit.scales[t]);
    for (std::size_t i = 0; i < kDepth; ++i) {
      float row[kLanes];
      Levels::nearest(tiles[t].x(i) * inverse).store(row);
      for (std::size_t lane = 0; lane < kLanes; ++lane) codes[(t * kLanes + lane) * kDepth + i] = code(row[lane]);
    }
  }
  return codes;
}

template <std::size_t kTiles>
void store_scales(const ScaledSuper<kTiles>& fit, int (&scales)[kTiles * kLanes]) {
  for (std::size_t t = 0; t < kTiles; ++t) {
    float row[kLanes];
    fit.scales[t].store(row);
    for (std::size_t lane = 0; lane < kLanes; ++lane) scales[t * kLanes + lane] = static_cast<int>(row[lane]);
  }
}

template <int kZero>
std::uint8_t integer_code(float level) {
  return static_cast<std::uint8_t>(static_cast<int>(level) + kZero);
}

// Sixteen groups of 16, as two tiles.
std::array<Tile<16>, 2> load_sixteens(const float* values, const float* importance) {
  std::array<float, kSuperBlock> room;
  const float* weights = normalised(importance, room);
  std::array<Tile<16>, 2> tiles;
  tiles[0].load(values, weights, kLanes);
  tiles[1].load(values + 128, weights == nullptr ? nullptr : weights + 128, kLanes);
  return tiles;
}

void encode_block(const float* values, const float* importance, BlockQ4_K& block) {
  encode_affine_super<15>(values, importance, kStartsQ4, block);
}

void encode_block(const float* values, const float* importance, BlockQ5_K& block) {
  encode_affine_super<31>(values, importance, kStartsQ5, block);
}

void encode_block(const float* values, const float* importance, BlockQ3_K& block) {
  using Levels = Integers<-4, 3>;
  const auto tiles = load_sixteens(values, importance);
  const auto fit = fit_scaled_super<Levels, -32, 31>(tiles, kReachesQ3);
  int scales[16];
  store_scales(fit, scales);
  block.scale = float_to_half(fit.scale);
  pack_scales(scales, block);
  pack_codes(round_super<Levels>(tiles, fit, integer_code<4>).data(), block);
}

void encode_block(const float* values, const float* importance, BlockQ6_K& block) {
  using Levels = Integers<-32, 31>;
  const auto tiles = load_sixteens(values, importance);
  const auto fit = fit_scaled_super<Levels, -128, 127>(tiles, kReachesQ6);
  int scales[16];
  store_scales(fit, scales);
  block.scale = float_to_half(fit.scale);
  for (std::size_t g = 0; g < 16; ++g) block.scales[g] = static_cast<std::int8_t>(scales[g]);
  pack_codes(round_super<Levels>(tiles, fit, integer_code<32>).data(), block);
}

void encode_block(const float* values, const float* importance, BlockIQ4_XS& block) {
  std::array<float, kSuperBlock> room;
  std::array<Tile<32>, 1> tiles;
  tiles[0].load(values, normalised(importance, room), kLanes);
  const auto fit = fit_scaled_super<Iq4Levels, -32, 31>(tiles, kReachesIq4);
  int scales[8];
  store_scales(fit, scales);
  block.scale = float_to_half(fit.scale);
  pack_scales(scales, block);
  pack_codes(round_super<Iq4Levels>(tiles, fit, Iq4Levels::code).data(), block);
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

void encode_q3_k(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_blocks<BlockQ3_K>(values, importance, n, dst);
}
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
