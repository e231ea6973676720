#include "tensor/codes.h"

#include <cstddef>

namespace qwen35 {
namespace {

std::uint8_t pair(unsigned low, unsigned high) noexcept {
  return static_cast<std::uint8_t>((low & 15) | (high & 15) << 4);
}

// Value j in the low half of byte j, value j + kBytes in the high half.
template <std::size_t kBytes>
void pack_nibbles(const std::uint8_t* codes, std::uint8_t* to) noexcept {
  for (std::size_t j = 0; j < kBytes; ++j) to[j] = pair(codes[j], codes[j + kBytes]);
}

// Bit j of byte i is the fifth bit of code 8 i + j.
void pack_fifth_bits(const std::uint8_t* codes, std::uint8_t (&to)[4]) noexcept {
  for (std::size_t byte = 0; byte < 4; ++byte) {
    unsigned bits = 0;
    for (std::size_t j = 0; j < 8; ++j) bits |= static_cast<unsigned>(codes[8 * byte + j] >> 4) << j;
    to[byte] = static_cast<std::uint8_t>(bits);
  }
}

// Bits kShift and kShift + 1 of every code: byte l of the h-th 32 bytes holds, at bits 2 s, those of 128 h + 32 s + l.
template <unsigned kShift>
void pack_two_bits(const std::uint8_t* codes, std::uint8_t (&to)[64]) noexcept {
  for (std::size_t h = 0; h < 2; ++h) {
    for (std::size_t l = 0; l < 32; ++l) {
      unsigned bits = 0;
      for (std::size_t s = 0; s < 4; ++s) bits |= (codes[128 * h + 32 * s + l] >> kShift & 3U) << (2 * s);
      to[32 * h + l] = static_cast<std::uint8_t>(bits);
    }
  }
}

// Bit b of byte l is bit kShift of code 32 b + l.
template <unsigned kShift>
void pack_one_bit(const std::uint8_t* codes, std::uint8_t (&to)[32]) noexcept {
  for (std::size_t l = 0; l < 32; ++l) {
    unsigned bits = 0;
    for (std::size_t b = 0; b < 8; ++b) bits |= (codes[32 * b + l] >> kShift & 1U) << b;
    to[l] = static_cast<std::uint8_t>(bits);
  }
}

}  // namespace

void pack_codes(const std::uint8_t* codes, BlockQ4_0& block) noexcept { pack_nibbles<16>(codes, block.codes); }

void pack_codes(const std::uint8_t* codes, BlockQ4_1& block) noexcept { pack_nibbles<16>(codes, block.codes); }

void pack_codes(const std::uint8_t* codes, BlockQ5_0& block) noexcept {
  pack_nibbles<16>(codes, block.codes);
  pack_fifth_bits(codes, block.high);
}

void pack_codes(const std::uint8_t* codes, BlockQ5_1& block) noexcept {
  pack_nibbles<16>(codes, block.codes);
  pack_fifth_bits(codes, block.high);
}

void pack_codes(const std::uint8_t* codes, BlockIQ4_NL& block) noexcept { pack_nibbles<16>(codes, block.codes); }

void pack_codes(const std::uint8_t* codes, BlockQ3_K& block) noexcept {
  pack_two_bits<0>(codes, block.codes);
  pack_one_bit<2>(codes, block.high);
}

void pack_codes(const std::uint8_t* codes, BlockQ4_K& block) noexcept {
  for (std::size_t p = 0; p < 4; ++p) pack_nibbles<32>(codes + 64 * p, block.codes + 32 * p);
}

void pack_codes(const std::uint8_t* codes, BlockQ5_K& block) noexcept {
  for (std::size_t p = 0; p < 4; ++p) pack_nibbles<32>(codes + 64 * p, block.codes + 32 * p);
  pack_one_bit<4>(codes, block.high);
}

void pack_codes(const std::uint8_t* codes, BlockQ6_K& block) noexcept {
  for (std::size_t h = 0; h < 2; ++h) pack_nibbles<64>(codes + 128 * h, block.codes + 64 * h);
  pack_two_bits<4>(codes, block.high);
}

void pack_codes(const std::uint8_t* codes, BlockIQ4_XS& block) noexcept {
  for (std::size_t g = 0; g < 8; ++g) pack_nibbles<16>(codes + 32 * g, block.codes + 16 * g);
}

void pack_scales(const int (&scales)[16], BlockQ3_K& block) noexcept {
  const auto s = [&](std::size_t g) { return static_cast<unsigned>(scales[g] + 32); };
  for (std::size_t g = 0; g < 8; ++g) block.scales[g] = pair(s(g), s(g + 8));
  for (std::size_t g = 0; g < 4; ++g) {
    unsigned bits = 0;
    for (std::size_t k = 0; k < 4; ++k) bits |= (s(4 * k + g) >> 4) << (2 * k);
    block.scales[8 + g] = static_cast<std::uint8_t>(bits);
  }
}

void pack_scales(const int (&scales)[8], BlockIQ4_XS& block) noexcept {
  unsigned high = 0;
  const auto s = [&](std::size_t g) { return static_cast<unsigned>(scales[g] + 32); };
  for (std::size_t g = 0; g < 8; ++g) high |= (s(g) >> 4) << (2 * g);
  for (std::size_t j = 0; j < 4; ++j) block.scales_low[j] = pair(s(2 * j), s(2 * j + 1));
  block.scales_high = static_cast<std::uint16_t>(high);
}

void unpack_scales(const BlockQ3_K& block, int (&scales)[16]) noexcept {
  for (std::size_t g = 0; g < 16; ++g) {
    const int low = block.scales[g % 8] >> (g < 8 ? 0 : 4) & 15;
    const int top = block.scales[8 + g % 4] >> (2 * (g / 4)) & 3;
    scales[g] = (low | top << 4) - 32;
  }
}

void unpack_scales(const BlockIQ4_XS& block, int (&scales)[8]) noexcept {
  for (std::size_t g = 0; g < 8; ++g) {
    const int low = block.scales_low[g / 2] >> (4 * (g % 2)) & 15;
    const int top = block.scales_high >> (2 * g) & 3;
    scales[g] = (low | top << 4) - 32;
  }
}

}  // namespace qwen35
