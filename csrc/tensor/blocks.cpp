// Decoding of every block type. The order of operations is part of the format: products first, then one subtraction or
// addition, all in fp32.
#include "tensor/blocks.h"

#include <cstring>
#include <string>

#include "base/error.h"
#include "tensor/codes.h"
#include "tensor/grids.h"
#include "tensor/half.h"

namespace qwen35 {
namespace {

void decode_block(const BlockQ8_0& b, float* x) {
  const float d = half_to_float(b.scale);
  for (std::size_t i = 0; i < 32; ++i) x[i] = static_cast<float>(b.codes[i]) * d;
}

void decode_block(const BlockQ4_0& b, float* x) {
  const float d = half_to_float(b.scale);
  for (std::size_t j = 0; j < 16; ++j) {
    x[j] = d * static_cast<float>((b.codes[j] & 15) - 8);
    x[j + 16] = d * static_cast<float>((b.codes[j] >> 4) - 8);
  }
}

void decode_block(const BlockQ4_1& b, float* x) {
  const float d = half_to_float(b.scale);
  const float m = half_to_float(b.min);
  for (std::size_t j = 0; j < 16; ++j) {
    x[j] = d * static_cast<float>(b.codes[j] & 15) + m;
    x[j + 16] = d * static_cast<float>(b.codes[j] >> 4) + m;
  }
}

// q of Q5_0 and Q5_1 at positions j and j + 16.
struct Pair {
  int first;
  int second;
};

Pair five_bits(const std::uint8_t (&high)[4], const std::uint8_t (&codes)[16], std::size_t j) {
  const int first = high[j / 8] >> (j % 8) & 1;
  const int second = high[2 + j / 8] >> (j % 8) & 1;
  return {(codes[j] & 15) | first << 4, codes[j] >> 4 | second << 4};
}

void decode_block(const BlockQ5_0& b, float* x) {
  const float d = half_to_float(b.scale);
  for (std::size_t j = 0; j < 16; ++j) {
    const Pair q = five_bits(b.high, b.codes, j);
    x[j] = d * static_cast<float>(q.first - 16);
    x[j + 16] = d * static_cast<float>(q.second - 16);
  }
}

void decode_block(const BlockQ5_1& b, float* x) {
  const float d = half_to_float(b.scale);
  const float m = half_to_float(b.min);
  for (std::size_t j = 0; j < 16; ++j) {
    const Pair q = five_bits(b.high, b.codes, j);
    x[j] = d * static_cast<float>(q.first) + m;
    x[j + 16] = d * static_cast<float>(q.second) + m;
  }
}

void decode_block(const BlockQ2_K& b, float* x) {
  const float d = half_to_float(b.scale);
  const float m = half_to_float(b.min);
  for (std::size_t g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(b.scales[g] & 15);
    const float min = m * static_cast<float>(b.scales[g] >> 4);
    const std::uint8_t* codes = b.codes + 32 * (g / 8) + 16 * (g % 2);
    const std::size_t shift = 2 * (g / 2 % 4);
    for (std::size_t l = 0; l < 16; ++l) x[16 * g + l] = scale * static_cast<float>(codes[l] >> shift & 3) - min;
  }
}

void decode_block(const BlockQ3_K& b, float* x) {
  const float d = half_to_float(b.scale);
  int scales[16];
  unpack_scales(b, scales);
  for (std::size_t g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(scales[g]);
    const std::uint8_t* codes = b.codes + 32 * (g / 8) + 16 * (g % 2);
    const std::uint8_t* high = b.high + 16 * (g % 2);
    const std::size_t shift = 2 * (g / 2 % 4);
    for (std::size_t l = 0; l < 16; ++l) {
      const int q = (codes[l] >> shift & 3) | (high[l] >> (g / 2) & 1) << 2;
      x[16 * g + l] = scale * static_cast<float>(q - 4);
    }
  }
}

// Q4_K, and Q5_K with `high`.
template <class Block>
void decode_scales_mins(const Block& b, const std::uint8_t* high, float* x) {
  const float d = half_to_float(b.scale);
  const float m = half_to_float(b.min);
  std::uint8_t scales[8];
  std::uint8_t mins[8];
  unpack_scales_mins(b.scales, scales, mins);
  for (std::size_t g = 0; g < 8; ++g) {
    const float scale = d * static_cast<float>(scales[g]);
    const float min = m * static_cast<float>(mins[g]);
    const std::uint8_t* codes = b.codes + 32 * (g / 2);
    const std::size_t shift = 4 * (g % 2);
    for (std::size_t l = 0; l < 32; ++l) {
      int q = codes[l] >> shift & 15;
      if (high != nullptr) q |= (high[l] >> g & 1) << 4;
      x[32 * g + l] = scale * static_cast<float>(q) - min;
    }
  }
}

void decode_block(const BlockQ4_K& b, float* x) { decode_scales_mins(b, nullptr, x); }
void decode_block(const BlockQ5_K& b, float* x) { decode_scales_mins(b, b.high, x); }

void decode_block(const BlockQ6_K& b, float* x) {
  const float d = half_to_float(b.scale);
  for (std::size_t g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(b.scales[g]);
    const std::uint8_t* codes = b.codes + 64 * (g / 8) + 16 * (g % 4);
    const std::uint8_t* high = b.high + 32 * (g / 8) + 16 * (g % 2);
    const std::size_t low_shift = 4 * (g / 4 % 2);
    const std::size_t high_shift = 2 * (g / 2 % 4);
    for (std::size_t l = 0; l < 16; ++l) {
      const int q = (codes[l] >> low_shift & 15) | (high[l] >> high_shift & 3) << 4;
      x[16 * g + l] = scale * static_cast<float>(q - 32);
    }
  }
}

void decode_levels(float scale, const std::uint8_t* codes, float* x) {
  for (std::size_t j = 0; j < 16; ++j) {
    x[j] = scale * static_cast<float>(kIq4Values[codes[j] & 15]);
    x[j + 16] = scale * static_cast<float>(kIq4Values[codes[j] >> 4]);
  }
}

void decode_block(const BlockIQ4_NL& b, float* x) { decode_levels(half_to_float(b.scale), b.codes, x); }

void decode_block(const BlockIQ4_XS& b, float* x) {
  const float d = half_to_float(b.scale);
  int scales[8];
  unpack_scales(b, scales);
  for (std::size_t g = 0; g < 8; ++g) {
    decode_levels(d * static_cast<float>(scales[g]), b.codes + 16 * g, x + 32 * g);
  }
}

template <class Block, std::size_t kValues>
void decode_grids(const std::byte* src, float* dst, std::size_t n) {
  for (std::size_t i = 0; i < n / kValues; ++i) {
    Block block;
    std::memcpy(&block, src + i * sizeof(Block), sizeof(Block));
    for (std::size_t g = 0; g < kValues / 32; ++g, dst += 32) {
      const GridGroup group = read_group(block, g);
      for (std::size_t c = 0; c < 32; ++c)
        dst[c] = group.scale[c / 16] * static_cast<float>(group.levels[group.codes[c]]);
    }
  }
}

template <class Block, std::size_t kValues>
void decode_blocks(const std::byte* src, float* dst, std::size_t n) {
  for (std::size_t i = 0; i < n / kValues; ++i) {
    Block block;
    std::memcpy(&block, src + i * sizeof(Block), sizeof(Block));
    decode_block(block, dst + i * kValues);
  }
}

template <float (*kWiden)(std::uint16_t)>
void decode_words(const std::byte* src, float* dst, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    std::uint16_t word;
    std::memcpy(&word, src + i * sizeof word, sizeof word);
    dst[i] = kWiden(word);
  }
}

}  // namespace

void decode(DType dtype, const std::byte* src, float* dst, std::size_t n) {
  const DTypeInfo* type = find_dtype(static_cast<std::uint32_t>(dtype));
  if (type != nullptr && n % type->block != 0) {
    throw InputError("decode: " + std::to_string(n) + " values are not a whole number of " + type->name +
                     " blocks of " + std::to_string(type->block));
  }
  if (n == 0) return;
  switch (dtype) {
    case DType::kF32:
      std::memcpy(dst, src, n * sizeof(float));
      return;
    case DType::kF16:
      return decode_words<half_to_float>(src, dst, n);
    case DType::kBF16:
      return decode_words<bf16_to_float>(src, dst, n);
    case DType::kQ8_0:
      return decode_blocks<BlockQ8_0, kBlock>(src, dst, n);
    case DType::kQ4_0:
      return decode_blocks<BlockQ4_0, kBlock>(src, dst, n);
    case DType::kQ4_1:
      return decode_blocks<BlockQ4_1, kBlock>(src, dst, n);
    case DType::kQ5_0:
      return decode_blocks<BlockQ5_0, kBlock>(src, dst, n);
    case DType::kQ5_1:
      return decode_blocks<BlockQ5_1, kBlock>(src, dst, n);
    case DType::kQ2_K:
      return decode_blocks<BlockQ2_K, kSuperBlock>(src, dst, n);
    case DType::kQ3_K:
      return decode_blocks<BlockQ3_K, kSuperBlock>(src, dst, n);
    case DType::kQ4_K:
      return decode_blocks<BlockQ4_K, kSuperBlock>(src, dst, n);
    case DType::kQ5_K:
      return decode_blocks<BlockQ5_K, kSuperBlock>(src, dst, n);
    case DType::kQ6_K:
      return decode_blocks<BlockQ6_K, kSuperBlock>(src, dst, n);
    case DType::kIQ4_NL:
      return decode_blocks<BlockIQ4_NL, kBlock>(src, dst, n);
    case DType::kIQ4_XS:
      return decode_blocks<BlockIQ4_XS, kSuperBlock>(src, dst, n);
    case DType::kIQ2_XXS:
      return decode_grids<BlockIQ2_XXS, kSuperBlock>(src, dst, n);
    case DType::kIQ2_XS:
      return decode_grids<BlockIQ2_XS, kSuperBlock>(src, dst, n);
    case DType::kIQ2_S:
      return decode_grids<BlockIQ2_S, kSuperBlock>(src, dst, n);
    case DType::kIQ3_XXS:
      return decode_grids<BlockIQ3_XXS, kSuperBlock>(src, dst, n);
    case DType::kIQ3_S:
      return decode_grids<BlockIQ3_S, kSuperBlock>(src, dst, n);
    case DType::kMXFP4:
      return decode_grids<BlockMXFP4, kBlock>(src, dst, n);
  }
  throw InputError("decode: type " + std::to_string(static_cast<std::uint32_t>(dtype)) + " cannot be decoded");
}

}  // namespace qwen35
