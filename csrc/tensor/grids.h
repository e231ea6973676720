// Types whose codes choose points of a grid: eight (IQ2) or four (IQ3) levels at once, with their signs apart; and
// MXFP4 (OCP Microscaling Formats 1.0), whose levels are those of a 4-bit float. Formulas are written as in
// tensor/blocks.h.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qwen35 {

// Groups g of 32: byte i of the first four chooses a point; the next 32-bit word holds 7 signs for each of them and,
// on top, s. x = scale (s + 1/2) / 4 * level.
struct BlockIQ2_XXS {
  std::uint16_t scale;  // half
  std::uint8_t codes[64];
};

// Each code: 9 bits of a point, 7 signs. Low nibbles of scales[g] are s of the first 16 of group g, high ones of the
// others; x as in IQ2_XXS.
struct BlockIQ2_XS {
  std::uint16_t scale;  // half
  std::uint16_t codes[32];
  std::uint8_t scales[8];
};

// As IQ2_XS with points of 10 bits, whose top two are bits 2 i of high[g], and all 8 signs.
struct BlockIQ2_S {
  std::uint16_t scale;  // half
  std::uint8_t codes[32];
  std::uint8_t signs[32];
  std::uint8_t high[8];
  std::uint8_t scales[8];
};

// Groups g of 32, eight points each; tails as the second word of IQ2_XXS. x = scale (s + 1/2) / 2 * level.
struct BlockIQ3_XXS {
  std::uint16_t scale;  // half
  std::uint8_t codes[64];
  std::uint8_t tails[32];
};

// Points of 9 bits, the top one bit i of high[g]. x = scale (1 + 2 s) * level; s of group g: a nibble of scales.
struct BlockIQ3_S {
  std::uint16_t scale;  // half
  std::uint8_t codes[64];
  std::uint8_t high[8];
  std::uint8_t signs[32];
  std::uint8_t scales[4];
};

// x[i] = 2^(exponent - 127) * e2m1(q[i]). Nibbles as in Q4_0.
struct BlockMXFP4 {
  std::uint8_t exponent;
  std::uint8_t codes[16];
};

static_assert(sizeof(BlockIQ2_XXS) == 66 && sizeof(BlockIQ2_XS) == 74 && sizeof(BlockIQ2_S) == 82);
static_assert(sizeof(BlockIQ3_XXS) == 98 && sizeof(BlockIQ3_S) == 110 && sizeof(BlockMXFP4) == 17);

// 32 values of a block: scale[i / 16] * levels[codes[i]]. Sixteen signed levels cover each of these types.
struct GridGroup {
  std::uint8_t codes[32];
  float scale[2];
  const std::int8_t* levels;
};

GridGroup read_group(const BlockIQ2_XXS& block, std::size_t g) noexcept;
GridGroup read_group(const BlockIQ2_XS& block, std::size_t g) noexcept;
GridGroup read_group(const BlockIQ2_S& block, std::size_t g) noexcept;
GridGroup read_group(const BlockIQ3_XXS& block, std::size_t g) noexcept;
GridGroup read_group(const BlockIQ3_S& block, std::size_t g) noexcept;
GridGroup read_group(const BlockMXFP4& block, std::size_t g) noexcept;

}  // namespace qwen35
