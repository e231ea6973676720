// The encoded block of every tensor type as it lies in a GGUF file, and its decoding to fp32. In the formulas, `half`
// fields are IEEE half precision; codes are listed lowest bits first.
#pragma once

#include <bit>
#include <cstddef>
#include <cstdint>

#include "tensor/tensor.h"

namespace qwen35 {

static_assert(std::endian::native == std::endian::little, "GGUF blocks are read in place");

inline constexpr std::size_t kBlock = 32;        // values in a plain block
inline constexpr std::size_t kSuperBlock = 256;  // values in a K or XS block

// x[i] = scale * codes[i]. Writers keep codes in [-127, 127].
struct BlockQ8_0 {
  std::uint16_t scale;  // half
  std::int8_t codes[32];
};

// x[i] = scale * (q[i] - 8). Byte j holds q[j] in its low nibble and q[j + 16] in its high nibble.
struct BlockQ4_0 {
  std::uint16_t scale;  // half
  std::uint8_t codes[16];
};

// x[i] = scale * q[i] + min. Nibbles as in Q4_0.
struct BlockQ4_1 {
  std::uint16_t scale;  // half
  std::uint16_t min;    // half
  std::uint8_t codes[16];
};

// x[i] = scale * (q[i] - 16). Low four bits as in Q4_0; bit i of the 32-bit number `high` is the fifth bit of q[i].
struct BlockQ5_0 {
  std::uint16_t scale;  // half
  std::uint8_t high[4];
  std::uint8_t codes[16];
};

// x[i] = scale * q[i] + min. Codes as in Q5_0.
struct BlockQ5_1 {
  std::uint16_t scale;  // half
  std::uint16_t min;    // half
  std::uint8_t high[4];
  std::uint8_t codes[16];
};

// Sixteen groups g of 16: x = scale * (scales[g] & 15) * q - min * (scales[g] >> 4). Two bits a code: byte l of the
// h-th 32 bytes holds, at bits 2s, q[128 h + 32 s + l].
struct BlockQ2_K {
  std::uint8_t scales[16];
  std::uint8_t codes[64];
  std::uint16_t scale;  // half
  std::uint16_t min;    // half
};

// Sixteen groups g of 16: x = scale * (s[g] - 32) * (q - 4). Low two bits as in Q2_K; bit b of high[l] is the third bit
// of q[32 b + l]. The 6-bit s: low nibbles in scales[g % 8], high two bits in scales[8 + g % 4] at 2 (g / 4).
struct BlockQ3_K {
  std::uint8_t high[32];
  std::uint8_t codes[64];
  std::uint8_t scales[12];
  std::uint16_t scale;  // half
};

// Eight groups g of 32: x = scale * s[g] * q - min * m[g], s and m of 6 bits (unpack_scales_mins). Byte l of the p-th
// 32 bytes holds q[64 p + l] low and q[64 p + 32 + l] high.
struct BlockQ4_K {
  std::uint16_t scale;  // half
  std::uint16_t min;    // half
  std::uint8_t scales[12];
  std::uint8_t codes[128];
};

// As Q4_K with a fifth bit: bit g of high[l] belongs to q[32 g + l].
struct BlockQ5_K {
  std::uint16_t scale;  // half
  std::uint16_t min;    // half
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t codes[128];
};

// Sixteen groups g of 16: x = scale * scales[g] * (q - 32). Low nibbles: byte l of the h-th 64 bytes holds
// q[128 h + l] low and q[128 h + 64 + l] high; high two bits: byte l of the h-th 32 bytes of `high` holds, at bits 2s,
// those of q[128 h + 32 s + l].
struct BlockQ6_K {
  std::uint8_t codes[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  std::uint16_t scale;  // half
};

// x[i] = scale * kIq4Values[q[i]]. Nibbles as in Q4_0.
struct BlockIQ4_NL {
  std::uint16_t scale;  // half
  std::uint8_t codes[16];
};

// Eight groups g of 32: x = scale * (s[g] - 32) * kIq4Values[q]. Each group's 16 bytes as in IQ4_NL. The 6-bit s: low
// nibbles in scales_low (even g low, odd g high), high two bits in scales_high at 2 g.
struct BlockIQ4_XS {
  std::uint16_t scale;  // half
  std::uint16_t scales_high;
  std::uint8_t scales_low[4];
  std::uint8_t codes[128];
};

static_assert(sizeof(BlockQ8_0) == 34 && sizeof(BlockQ4_0) == 18 && sizeof(BlockQ4_1) == 20);
static_assert(sizeof(BlockQ5_0) == 22 && sizeof(BlockQ5_1) == 24 && sizeof(BlockQ2_K) == 84);
static_assert(sizeof(BlockQ3_K) == 110 && sizeof(BlockQ4_K) == 144 && sizeof(BlockQ5_K) == 176);
static_assert(sizeof(BlockQ6_K) == 210 && sizeof(BlockIQ4_NL) == 18 && sizeof(BlockIQ4_XS) == 136);

// The non-uniform levels of IQ4_NL and IQ4_XS.
inline constexpr std::int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};

// The 6-bit scales and mins of Q4_K and Q5_K. Bytes 0-3: scales 0-3 and, above bit 6, the top of scales 4-7; bytes 4-7
// the same for mins; bytes 8-11: low nibbles of scales 4-7 and, above, of mins 4-7.
inline void unpack_scales_mins(const std::uint8_t (&packed)[12], std::uint8_t (&scales)[8],
                               std::uint8_t (&mins)[8]) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    scales[j] = packed[j] & 63;
    mins[j] = packed[j + 4] & 63;
    scales[j + 4] = static_cast<std::uint8_t>((packed[j + 8] & 15) | (packed[j] >> 6 << 4));
    mins[j + 4] = static_cast<std::uint8_t>((packed[j + 8] >> 4) | (packed[j + 4] >> 6 << 4));
  }
}

inline void pack_scales_mins(const std::uint8_t (&scales)[8], const std::uint8_t (&mins)[8],
                             std::uint8_t (&packed)[12]) noexcept {
  for (std::size_t j = 0; j < 4; ++j) {
    packed[j] = static_cast<std::uint8_t>(scales[j] | (scales[j + 4] >> 4 << 6));
    packed[j + 4] = static_cast<std::uint8_t>(mins[j] | (mins[j + 4] >> 4 << 6));
    packed[j + 8] = static_cast<std::uint8_t>((scales[j + 4] & 15) | ((mins[j + 4] & 15) << 4));
  }
}

// Encoded blocks to fp32, the same bits on every machine (NaN payloads aside). n is a multiple of the type's block;
// src needs no alignment and holds n / block * block_bytes bytes.
void decode(DType dtype, const std::byte* src, float* dst, std::size_t n);

}  // namespace qwen35
