// Encoders of the 32-value blocks: Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, IQ4_NL. Eight blocks are searched at a time.
#include <algorithm>
#include <array>
#include <cstring>

#include "tensor/codes.h"
#include "tensor/encoders.h"
#include "tensor/half.h"
#include "tensor/search.h"

namespace qwen35 {
namespace {

using BlockTile = Tile<kBlock>;
using Codes = std::array<std::uint8_t, kBlock>;

// Reaches: where the search puts the largest magnitude, in levels. A sign of its own lets the longer negative side of
// the levels serve either tail.
constexpr float kReachesQ8[] = {126.6f, 126.8f, 127.0f, 127.2f, 127.4f, 127.6f, 127.8f, 128.0f};
constexpr float kReachesQ4[] = {6.6f,  6.9f,  7.2f,  7.5f,  7.8f,  8.1f,  8.4f,  8.8f,
                                -6.6f, -6.9f, -7.2f, -7.5f, -7.8f, -8.1f, -8.4f, -8.8f};
constexpr float kReachesQ5[] = {14.9f,  15.2f,  15.5f,  15.8f,  16.1f,  16.5f,
                                -14.9f, -15.2f, -15.5f, -15.8f, -16.1f, -16.5f};
constexpr float kReachesIq4[] = {98.0f,  106.0f,  113.0f,  120.0f,  127.0f,  135.0f,
                                 -98.0f, -106.0f, -113.0f, -120.0f, -127.0f, -135.0f};
constexpr float kFewReachesIq4[] = {127.0f, -127.0f, 113.0f, -113.0f};
constexpr Start kStartsQ4[] = {{0.0f, 15.0f}, {0.3f, 14.7f}, {-0.3f, 15.3f}, {0.6f, 14.4f}, {0.0f, 14.5f},
                               {0.5f, 15.0f}, {0.4f, 15.4f}, {-0.4f, 14.6f}, {0.9f, 14.1f}};
constexpr Start kStartsQ5[] = {{0.0f, 31.0f}, {0.3f, 30.7f}, {-0.3f, 31.3f}, {0.0f, 30.5f}, {0.5f, 31.0f}};

// The nearest finite half-precision number, lane by lane, as bits and as the value a reader will see.
struct Stored {
  std::uint16_t bits[kLanes];
  Lanes value;
};

Stored store_half(Lanes x) {
  Stored stored;
  float value[kLanes];
  clamp(x, lanes(-kHalfMax), lanes(kHalfMax)).store(value);
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    stored.bits[lane] = float_to_half(value[lane]);
    value[lane] = half_to_float(stored.bits[lane]);
  }
  stored.value = Lanes::load(value);
  return stored;
}

// The levels of the final rounding: at[i][lane].
struct Levels8 {
  float at[kBlock][kLanes];
};

template <class Levels>
void round_levels(const BlockTile& tile, Lanes scale, Lanes offset, Levels8& levels) {
  const Lanes inverse = ratio(lanes(1.0f), scale);
  for (std::size_t i = 0; i < kBlock; ++i) Levels::nearest((tile.x(i) - offset) * inverse).store(levels.at[i]);
}

template <int kZero>
Codes codes_of(const Levels8& levels, std::size_t lane) {
  Codes codes;
  for (std::size_t i = 0; i < kBlock; ++i)
    codes[i] = static_cast<std::uint8_t>(static_cast<int>(levels.at[i][lane]) + kZero);
  return codes;
}

// encode_tile(tile, block) fits eight blocks and writes them; those beyond the end are dropped.
template <class Block, class EncodeTile>
void for_tiles(const float* values, const float* importance, std::size_t n, std::byte* dst, EncodeTile encode_tile) {
  const std::size_t blocks = n / kBlock;
  for (std::size_t first = 0; first < blocks; first += kLanes) {
    const std::size_t count = std::min(kLanes, blocks - first);
    BlockTile tile;
    tile.load(values + first * kBlock, importance == nullptr ? nullptr : importance + first * kBlock, count);
    Block block[kLanes];
    encode_tile(tile, block);
    std::memcpy(dst + first * sizeof(Block), block, count * sizeof(Block));
  }
}

template <class Block, class Levels, class Fill>
void encode_scaled(const float* values, const float* importance, std::size_t n, std::byte* dst,
                   std::span<const float> reaches, Fill fill, int refits = 2) {
  for_tiles<Block>(values, importance, n, dst, [&](const BlockTile& tile, Block(&block)[kLanes]) {
    const Stored scale = store_half(search_scale<Levels>(tile, reaches, refits));
    Levels8 levels;
    round_levels<Levels>(tile, scale.value, lanes(0.0f), levels);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      block[lane].scale = scale.bits[lane];
      fill(block[lane], levels, lane);
    }
  });
}

template <class Block, int kHigh, class Fill>
void encode_affine(const float* values, const float* importance, std::size_t n, std::byte* dst,
                   std::span<const Start> starts, Fill fill) {
  for_tiles<Block>(values, importance, n, dst, [&](const BlockTile& tile, Block(&block)[kLanes]) {
    const AffineFit fit = search_affine<kHigh, false>(tile, starts, 2);
    const Stored scale = store_half(fit.scale);
    // The codes are those of the stored scale, and so is the offset: where the scale vanishes it becomes the mean.
    const Stored offset = store_half(best_offset<Integers<0, kHigh>>(tile, scale.value, fit.offset));
    Levels8 levels;
    round_levels<Integers<0, kHigh>>(tile, scale.value, offset.value, levels);
    for (std::size_t lane = 0; lane < kLanes; ++lane) {
      block[lane].scale = scale.bits[lane];
      block[lane].min = offset.bits[lane];
      fill(block[lane], codes_of<0>(levels, lane));
    }
  });
}

void fill_iq4_nl(BlockIQ4_NL& block, const Levels8& levels, std::size_t lane) {
  Codes codes;
  for (std::size_t i = 0; i < kBlock; ++i) codes[i] = Iq4Levels::code(levels.at[i][lane]);
  pack_codes(codes.data(), block);
}

}  // namespace

void encode_q8_0(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_scaled<BlockQ8_0, Integers<-127, 127>>(values, importance, n, dst, kReachesQ8,
                                                [](BlockQ8_0& block, const Levels8& levels, std::size_t lane) {
                                                  for (std::size_t i = 0; i < kBlock; ++i)
                                                    block.codes[i] = static_cast<std::int8_t>(levels.at[i][lane]);
                                                });
}

void encode_q4_0(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_scaled<BlockQ4_0, Integers<-8, 7>>(values, importance, n, dst, kReachesQ4,
                                            [](BlockQ4_0& block, const Levels8& levels, std::size_t lane) {
                                              pack_codes(codes_of<8>(levels, lane).data(), block);
                                            });
}

void encode_q5_0(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_scaled<BlockQ5_0, Integers<-16, 15>>(values, importance, n, dst, kReachesQ5,
                                              [](BlockQ5_0& block, const Levels8& levels, std::size_t lane) {
                                                const Codes codes = codes_of<16>(levels, lane);
                                                pack_codes(codes.data(), block);
                                              });
}

void encode_iq4_nl(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_scaled<BlockIQ4_NL, Iq4Levels>(values, importance, n, dst, kReachesIq4, fill_iq4_nl);
}

void encode_iq4_nl_in_passing(const float* values, std::size_t n, std::byte* dst) {
  encode_scaled<BlockIQ4_NL, Iq4Levels>(values, nullptr, n, dst, kFewReachesIq4, fill_iq4_nl, 1);
}

void encode_q4_1(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_affine<BlockQ4_1, 15>(values, importance, n, dst, kStartsQ4,
                               [](BlockQ4_1& block, const Codes& codes) { pack_codes(codes.data(), block); });
}

void encode_q5_1(const float* values, const float* importance, std::size_t n, std::byte* dst) {
  encode_affine<BlockQ5_1, 31>(values, importance, n, dst, kStartsQ5,
                               [](BlockQ5_1& block, const Codes& codes) { pack_codes(codes.data(), block); });
}

}  // namespace qwen35
