// A full page into 8 or 4 bits, block by block: the searches of tensor/encode_plain.cpp for the scale of least squared
// error, step by step, so that the codes are those of the CPU's pages. A block that holds an infinity or NaN has NaN
// for its scale.
#pragma once

#include "devices/cuda/math.cuh"
#include "devices/cuda/pages.cuh"

namespace qwen35::cuda {

using Block = float[kBlockColumns];

// a / b, and 0 where |b| is below 1e-30.
DEVICE float ratio(float a, float b) { return (b < 0.0f ? -b : b) > 1e-30f ? a / b : 0.0f; }

// To the nearest integer, ties to even.
DEVICE float nearest_integer(float x) { return (x + 12582912.0f) - 12582912.0f; }

// Q8_0.
struct WideLevels {
  static constexpr unsigned kReaches = 8, kRefits = 2;
  DEVICE static float reach(unsigned i) {
    const float low = i == 0 ? 126.6f : i == 1 ? 126.8f : i == 2 ? 127.0f : 127.2f;
    const float high = i == 4 ? 127.4f : i == 5 ? 127.6f : i == 6 ? 127.8f : 128.0f;
    return i < 4 ? low : high;
  }
  DEVICE static float nearest(float t) {
    t = t > -127.0f ? t : -127.0f;
    return nearest_integer(t < 127.0f ? t : 127.0f);
  }
};

// IQ4_NL, with the few reaches of its encoder in passing. The nearest of sixteen levels, by the midpoints below.
struct NarrowLevels {
  static constexpr unsigned kReaches = 4, kRefits = 1;
  DEVICE static float reach(unsigned i) {
    const float size = i < 2 ? 127.0f : 113.0f;
    return i % 2 == 0 ? size : -size;
  }
  DEVICE static unsigned code(float t) {
    constexpr float kAll[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    unsigned below = 0;
    UNROLL(15)
    for (unsigned i = 0; i < 15; ++i) below += 0.5f * (kAll[i] + kAll[i + 1]) < t ? 1 : 0;
    return below;
  }
  DEVICE static float nearest(float t) {
    constexpr float kAll[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    float level = kAll[0];
    UNROLL(15)
    for (unsigned i = 0; i < 15; ++i) level = 0.5f * (kAll[i] + kAll[i + 1]) < t ? kAll[i + 1] : level;
    return level;
  }
};

struct ScaleFit {
  float scale;
  float error;
};

// Rounds to the levels of scale 1 / inverse, then solves for the scale that fits those levels best.
template <class Levels>
DEVICE ScaleFit fit_scale(const Block& x, float inverse) {
  float uu = 0.0f, ul = 0.0f, ll = 0.0f;
  UNROLL(32)
  for (unsigned i = 0; i < kBlockColumns; ++i) {
    const float t = x[i] * inverse, level = Levels::nearest(t), u = t - level;
    uu = uu + u * u;
    ul = ul + u * level;
    ll = ll + level * level;
  }
  const float scale = ratio(1.0f, inverse), change = ratio(ul, ll);
  return {scale * (1.0f + change), scale * scale * (uu - change * ul)};
}

template <class Levels>
DEVICE float search_scale(const Block& x) {
  float largest = 0.0f;
  UNROLL(32)
  for (unsigned i = 0; i < kBlockColumns; ++i) {
    const float size = x[i] < 0.0f ? -x[i] : x[i];
    largest = size > largest ? size : largest;
  }
  const float per_level = ratio(1.0f, largest);
  ScaleFit best{0.0f, 3e38f};
  UNROLL(1)
  for (unsigned i = 0; i < Levels::kReaches + Levels::kRefits; ++i) {
    const bool is_refit = i >= Levels::kReaches;
    const ScaleFit fit = fit_scale<Levels>(x, is_refit ? ratio(1.0f, best.scale) : per_level * Levels::reach(i));
    if (fit.error < best.error) best = fit;
  }
  return best.scale;
}

// Where a block's codes and scale go: row `row` of a tile of codes.
struct CodePlace {
  Byte* tile;
  unsigned row;
  unsigned short* scale;
};

DEVICE void put_wide(const CodePlace& to, const Block& x, float inverse) {
  UNROLL(8)
  for (unsigned word = 0; word < 8; ++word) {  // columns 4 word on
    int codes[4];
    UNROLL(4)
    for (unsigned i = 0; i < 4; ++i) codes[i] = static_cast<int>(WideLevels::nearest(x[4 * word + i] * inverse));
    const unsigned lane = to.row % 8 * 4 + word % 4, part = to.row / 8 + 2 * (word / 4);
    reinterpret_cast<unsigned*>(to.tile)[lane * 4 + part] = pack_bytes(codes[0], codes[1], codes[2], codes[3]);
  }
}

DEVICE void put_narrow(const CodePlace& to, const Block& x, float inverse) {
  UNROLL(4)
  for (unsigned t = 0; t < 4; ++t) {  // columns 4 t and 16 + 4 t on
    unsigned word = 0;
    UNROLL(4)
    for (unsigned i = 0; i < 4; ++i) {
      word |= NarrowLevels::code(x[4 * t + i] * inverse) << 8 * i;
      word |= NarrowLevels::code(x[16 + 4 * t + i] * inverse) << (8 * i + 4);
    }
    reinterpret_cast<unsigned*>(to.tile)[(to.row % 8 * 4 + t) * 2 + to.row / 8] = word;
  }
}

DEVICE void put_block(const CodePlace& to, Block& x, bool is_wide) {
  bool is_damaged = false;
  UNROLL(32)
  for (unsigned i = 0; i < kBlockColumns; ++i) {
    if ((float_bits(x[i]) & 0x7f800000u) != 0x7f800000u) continue;
    is_damaged = true;
    x[i] = 0.0f;
  }
  const unsigned short scale = float_to_half(is_wide ? search_scale<WideLevels>(x) : search_scale<NarrowLevels>(x));
  const float inverse = ratio(1.0f, half_to_float(scale));
  if (is_wide) {
    put_wide(to, x, inverse);
  } else {
    put_narrow(to, x, inverse);
  }
  *to.scale = is_damaged ? static_cast<unsigned short>(0x7e00) : scale;
}

// Block `number` of the keys: 32 elements of one token.
DEVICE void quantise_keys(Byte* page, const Byte* plain, const KvLayer& layer, unsigned format, unsigned head,
                          unsigned number) {
  const unsigned part = number / kPageKeys, key = number % kPageKeys;
  const QuantisedHead at = quantised_head(page, layer, format, head);
  const auto* from = reinterpret_cast<const unsigned short*>(plain) + key * layer.width + part * kBlockColumns;
  Block x;
  UNROLL(32)
  for (unsigned i = 0; i < kBlockColumns; ++i) x[i] = half_to_float(from[i]);
  const bool is_wide = format != kKvQ4;
  const unsigned tile = part * (kPageKeys / 16) + key / 16;
  put_block({const_cast<Byte*>(at.keys) + tile * (is_wide ? kCodeTileBytes<true> : kCodeTileBytes<false>), key % 16,
             reinterpret_cast<unsigned short*>(const_cast<Byte*>(at.key_scales)) + number},
            x, is_wide);
}

// Block `number` of the values: one element of 32 tokens.
DEVICE void quantise_values(Byte* page, const Byte* plain, const KvLayer& layer, unsigned format, unsigned head,
                            unsigned number) {
  const unsigned part = number / layer.width, a = number % layer.width;
  const QuantisedHead at = quantised_head(page, layer, format, head);
  const auto* from = reinterpret_cast<const unsigned short*>(plain) + part * kBlockColumns * layer.width + a;
  Block x;
  UNROLL(32)
  for (unsigned i = 0; i < kBlockColumns; ++i) x[i] = half_to_float(from[i * layer.width]);
  const bool is_wide = format == kKvQ8;
  const unsigned tile = part * (layer.width / 16) + a / 32 * 2 + a % 4 / 2;
  put_block({const_cast<Byte*>(at.values) + tile * (is_wide ? kCodeTileBytes<true> : kCodeTileBytes<false>),
             value_row(a % 32), reinterpret_cast<unsigned short*>(const_cast<Byte*>(at.value_scales)) + number},
            x, is_wide);
}

// A thread takes a block of 32. The pages that rows certain by now have filled since only those below `committed` were
// (devices/places.h, filled_pages). Grid: (2 G A / 32, segments * most_pages).
KERNEL(quantise_page, kPageKeys)(QuantisePageArgs args) {
  await_predecessor();
  const SegmentView& s = args.step.segments[blockIdx.y / args.most_pages];
  if (s.count == 0 || !is_quantised(s.format)) return;
  const unsigned committed = s.committed / kPageKeys;
  const unsigned page = (committed > 1 ? committed : 1) + blockIdx.y % args.most_pages;
  if (page >= (s.position + s.certain) / kPageKeys) return;
  const unsigned parts = args.layer.width / kBlockColumns, head = blockIdx.x / (2 * parts);
  const unsigned part = blockIdx.x % (2 * parts), thread = threadIdx.x;
  Byte* plain = args.step.pages[s.plain_pages + page];
  Byte* to = args.step.pages[s.quantised_pages + page];
  if (part < parts) {
    quantise_keys(to, plain_keys(plain, args.layer, s.format, head), args.layer, s.format, head,
                  part * kPageKeys + thread);
  } else {
    quantise_values(to, plain_values(plain, args.layer, s.format, head), args.layer, s.format, head,
                    (part - parts) * kPageKeys + thread);
  }
}

}  // namespace qwen35::cuda
