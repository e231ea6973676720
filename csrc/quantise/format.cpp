#include "quantise/format.h"

#include <cstring>

#include "tensor/codes.h"
#include "tensor/half.h"
#include "tensor/search.h"

namespace qwen35 {
namespace {

// How the scales of each block lie; offsets that a format does not have are zero.

template <class Block>
void read_plain(const Block& block, BlockScales& to) noexcept {
  to.scale = half_to_float(block.scale);
  to.scales[0] = 1.0f;
}

void read_scales(const BlockQ4_0& block, BlockScales& to) noexcept { read_plain(block, to); }
void read_scales(const BlockIQ4_NL& block, BlockScales& to) noexcept { read_plain(block, to); }
void read_scales(const BlockQ4_1& block, BlockScales& to) noexcept {
  read_plain(block, to);
  to.offset = half_to_float(block.min);
  to.offsets[0] = 1.0f;
}

template <class Block>
void read_affine(const Block& block, BlockScales& to) noexcept {
  to.scale = half_to_float(block.scale);
  to.offset = half_to_float(block.min);
  std::uint8_t scales[8], mins[8];
  unpack_scales_mins(block.scales, scales, mins);
  for (std::size_t g = 0; g < 8; ++g) {
    to.scales[g] = static_cast<float>(scales[g]);
    to.offsets[g] = -static_cast<float>(mins[g]);
  }
}

void read_scales(const BlockQ4_K& block, BlockScales& to) noexcept { read_affine(block, to); }
void read_scales(const BlockQ5_K& block, BlockScales& to) noexcept { read_affine(block, to); }

template <std::size_t kGroups, class Block>
void read_packed(const Block& block, BlockScales& to) noexcept {
  to.scale = half_to_float(block.scale);
  int scales[kGroups];
  unpack_scales(block, scales);
  for (std::size_t g = 0; g < kGroups; ++g) to.scales[g] = static_cast<float>(scales[g]);
}

void read_scales(const BlockQ3_K& block, BlockScales& to) noexcept { read_packed<16>(block, to); }
void read_scales(const BlockIQ4_XS& block, BlockScales& to) noexcept { read_packed<8>(block, to); }
void read_scales(const BlockQ6_K& block, BlockScales& to) noexcept {
  to.scale = half_to_float(block.scale);
  for (std::size_t g = 0; g < 16; ++g) to.scales[g] = static_cast<float>(block.scales[g]);
}

template <class Block>
void write_scales(const BlockScales&, Block&) noexcept {}  // one group, whose scale is the block's

void write_scales(const BlockScales& from, BlockQ4_1& block) noexcept { block.min = float_to_half(from.offset); }

template <class Block>
void write_affine(const BlockScales& from, Block& block) noexcept {
  block.min = float_to_half(from.offset);
  std::uint8_t scales[8], mins[8];
  for (std::size_t g = 0; g < 8; ++g) {
    scales[g] = static_cast<std::uint8_t>(from.scales[g]);
    mins[g] = static_cast<std::uint8_t>(-from.offsets[g]);
  }
  pack_scales_mins(scales, mins, block.scales);
}

void write_scales(const BlockScales& from, BlockQ4_K& block) noexcept { write_affine(from, block); }
void write_scales(const BlockScales& from, BlockQ5_K& block) noexcept { write_affine(from, block); }

template <std::size_t kGroups, class Block>
void write_packed(const BlockScales& from, Block& block) noexcept {
  int scales[kGroups];
  for (std::size_t g = 0; g < kGroups; ++g) scales[g] = static_cast<int>(from.scales[g]);
  pack_scales(scales, block);
}

void write_scales(const BlockScales& from, BlockQ3_K& block) noexcept { write_packed<16>(from, block); }
void write_scales(const BlockScales& from, BlockIQ4_XS& block) noexcept { write_packed<8>(from, block); }
void write_scales(const BlockScales& from, BlockQ6_K& block) noexcept {
  for (std::size_t g = 0; g < 16; ++g) block.scales[g] = static_cast<std::int8_t>(from.scales[g]);
}

// Levels kLow..kHigh; a code counts from kLow.
template <int kLow, int kHigh>
struct IntegerLevels : Integers<kLow, kHigh> {
  static std::uint8_t code(float level) noexcept { return static_cast<std::uint8_t>(static_cast<int>(level) - kLow); }
};

template <class Levels>
void nearest_levels(const float* x, const float* inverse, const float* offset, float* levels) noexcept {
  for (std::size_t lane = 0; lane < kRowTile; lane += kLanes) {
    const Lanes t = (Lanes::load(x + lane) - Lanes::load(offset + lane)) * Lanes::load(inverse + lane);
    Levels::nearest(t).store(levels + lane);
  }
}

template <class Block>
void read(const std::byte* from, BlockScales& scales) noexcept {
  Block block;
  std::memcpy(&block, from, sizeof block);
  scales = {};
  read_scales(block, scales);
}

template <class Block, class Levels, std::size_t kValues>
void write(const BlockScales& scales, const float* levels, std::byte* to) noexcept {
  Block block;
  block.scale = float_to_half(scales.scale);
  write_scales(scales, block);
  std::uint8_t codes[kValues];
  for (std::size_t i = 0; i < kValues; ++i) codes[i] = Levels::code(levels[i]);
  pack_codes(codes, block);
  std::memcpy(to, &block, sizeof block);
}

constexpr Steps kOne{1.0f, 1.0f};
constexpr Steps kNone{0.0f, 0.0f};

template <class Block, class Levels>
constexpr BlockFormat plain(Encoder encode, bool has_offset) noexcept {
  return {.block = kBlock,
          .group = kBlock,
          .has_offset = has_offset,
          .scales = kOne,
          .offsets = has_offset ? kOne : kNone,
          .encode = encode,
          .nearest = nearest_levels<Levels>,
          .read = read<Block>,
          .write = write<Block, Levels, kBlock>};
}

template <class Block, class Levels>
constexpr BlockFormat super(Encoder encode, std::size_t group, Steps scales, Steps offsets) noexcept {
  return {.block = kSuperBlock,
          .group = group,
          .has_offset = offsets.least < 0.0f,
          .scales = scales,
          .offsets = offsets,
          .encode = encode,
          .nearest = nearest_levels<Levels>,
          .read = read<Block>,
          .write = write<Block, Levels, kSuperBlock>};
}

constexpr Steps kSixBits{0.0f, 63.0f};
constexpr Steps kSixBitsBelow{-63.0f, 0.0f};
constexpr Steps kSigned{-32.0f, 31.0f};
constexpr BlockFormat kQ4_0 = plain<BlockQ4_0, IntegerLevels<-8, 7>>(encode_q4_0, false);
constexpr BlockFormat kQ4_1 = plain<BlockQ4_1, IntegerLevels<0, 15>>(encode_q4_1, true);
constexpr BlockFormat kIq4Nl = plain<BlockIQ4_NL, Iq4Levels>(encode_iq4_nl, false);
constexpr BlockFormat kQ3K = super<BlockQ3_K, IntegerLevels<-4, 3>>(encode_q3_k, 16, kSigned, kNone);
constexpr BlockFormat kQ4K = super<BlockQ4_K, IntegerLevels<0, 15>>(encode_q4_k, 32, kSixBits, kSixBitsBelow);
constexpr BlockFormat kQ5K = super<BlockQ5_K, IntegerLevels<0, 31>>(encode_q5_k, 32, kSixBits, kSixBitsBelow);
constexpr BlockFormat kQ6K = super<BlockQ6_K, IntegerLevels<-32, 31>>(encode_q6_k, 16, {-128.0f, 127.0f}, kNone);
constexpr BlockFormat kIq4Xs = super<BlockIQ4_XS, Iq4Levels>(encode_iq4_xs, 32, kSigned, kNone);

}  // namespace

const BlockFormat* find_block_format(DType dtype) noexcept {
  switch (dtype) {
    case DType::kQ4_0:
      return &kQ4_0;
    case DType::kQ4_1:
      return &kQ4_1;
    case DType::kIQ4_NL:
      return &kIq4Nl;
    case DType::kQ3_K:
      return &kQ3K;
    case DType::kQ4_K:
      return &kQ4K;
    case DType::kQ5_K:
      return &kQ5K;
    case DType::kQ6_K:
      return &kQ6K;
    case DType::kIQ4_XS:
      return &kIq4Xs;
    default:
      return nullptr;
  }
}

}  // namespace qwen35
