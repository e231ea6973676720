// Reading packed panels: 32 columns of one row as eight words of four signed bytes, and their scales.
#pragma once

#include "devices/cuda/device.cuh"
#include "devices/cuda/math.cuh"
#include "devices/cuda/packed_panels.h"

namespace qwen35::cuda {

// A word of nibbles and what belongs to it: raw memory, read ahead of its use.
struct RawWord {
  unsigned low;      // nibbles of columns 4 t and 16 + 4 t; or bytes of columns 4 t
  unsigned second;   // bytes of columns 16 + 4 t
  unsigned high[2];  // further bits of the row
  uint4 levels;
};

// Columns 4 t and 16 + 4 t on, four signed bytes each.
struct Words {
  int first;
  int second;
};

// Of one row's 32 columns: w = scale[h] (q - zero) - min[h], h = column / 16. Without halves only index 0 is set.
struct Scales {
  float scale[2];
  float min[2];
};

inline constexpr unsigned kLowNibbles = 0x0f0f0f0fu;

// Sixteen signed bytes by the nibbles of a word: those of the low nibbles, and of the high ones.
DEVICE Words look_up(const uint4& table, unsigned nibbles) {
  unsigned both[2];  // low and high nibble of bytes 0 and 1, of bytes 2 and 3
  for (int i = 0; i < 2; ++i) {
    const unsigned q = nibbles >> 16 * i;
    const unsigned small = __byte_perm(table.x, table.y, q & 0x7777u);
    const unsigned large = __byte_perm(table.z, table.w, q & 0x7777u);
    both[i] = __byte_perm(small, large, 0x3210u | (q & 0x8888u) >> 1);
  }
  return {static_cast<int>(__byte_perm(both[0], both[1], 0x6420u)),
          static_cast<int>(__byte_perm(both[0], both[1], 0x7531u))};
}

DEVICE uint4 iq4_levels() { return {0xbfad9881u, 0xf6eaddcfu, 0x26190d01u, 0x71594535u}; }

DEVICE float half_at(const Byte* p, unsigned row) {
  return half_to_float(reinterpret_cast<const unsigned short*>(p)[row]);
}

template <Format kFormat>
struct Panel {
  static constexpr UnitLayout kUnit = unit_layout(kFormat);
  static constexpr bool kIsWide = kUnit.bytewide;
  static constexpr bool kHasHalves =
      kFormat == Format::kQ6_K || kFormat == Format::kLevels || kFormat == Format::kAffine;
  static constexpr bool kHasMins = kFormat == Format::kQ4_K || kFormat == Format::kQ5_K || kFormat == Format::kAffine;
  static constexpr int kZero = kFormat == Format::kQ4_0 ? 8 : kFormat == Format::kQ6_K ? 32 : 0;
  static constexpr unsigned kBlocks = kUnit.columns / 32;  // of a unit

  DEVICE static const Byte* unit(const Byte* panel, unsigned block) {
    return panel + static_cast<unsigned long long>(block / kBlocks) * kUnit.bytes;
  }
  DEVICE static const Byte* codes(const Byte* unit, unsigned block) {
    return unit + kUnit.codes + block % kBlocks * kUnit.part;
  }

  // Word t of a row.
  DEVICE static RawWord word(const Byte* panel, unsigned block, unsigned row, unsigned t) {
    const Byte* from = codes(unit(panel, block), block);
    RawWord raw{};
    raw.low = load4(from + row * 16 + 4 * t);
    if (kIsWide) raw.second = load4(from + kNibblePlane + row * 16 + 4 * t);
    add_high(raw, from, row);
    return raw;
  }
  // Bits beyond the nibbles, which lie behind them.
  DEVICE static void add_high(RawWord& raw, const Byte* codes, unsigned row) {
    const Byte* high = codes + kNibblePlane;
    if (kFormat == Format::kQ5_K) raw.high[0] = load4(high + 4 * row);
    if (kFormat == Format::kQ6_K) {
      raw.high[0] = load4(high + 4 * row);
      raw.high[1] = load4(high + 4 * (kPanelRows + row));
    }
    if (kFormat == Format::kLevels) raw.levels = load16(high);
    if (kFormat == Format::kIQ4_NL || kFormat == Format::kIQ4_XS) raw.levels = iq4_levels();
  }

  DEVICE static Words words(const RawWord& raw, unsigned t) {
    if (kIsWide) return {static_cast<int>(raw.low), static_cast<int>(raw.second)};
    if (kFormat == Format::kLevels || kFormat == Format::kIQ4_NL || kFormat == Format::kIQ4_XS) {
      return look_up(raw.levels, raw.low);
    }
    unsigned first = raw.low & kLowNibbles, second = raw.low >> 4 & kLowNibbles;
    if (kFormat == Format::kQ5_K) {
      first |= (raw.high[0] >> t & 0x01010101u) << 4;
      second |= (raw.high[0] >> (4 + t) & 0x01010101u) << 4;
    }
    if (kFormat == Format::kQ6_K) {
      first |= (raw.high[0] >> 2 * t & 0x03030303u) << 4;
      second |= (raw.high[1] >> 2 * t & 0x03030303u) << 4;
    }
    return {static_cast<int>(first), static_cast<int>(second)};
  }

  DEVICE static Scales scales(const Byte* panel, unsigned block, unsigned row) {
    const Byte* u = unit(panel, block);
    const unsigned part = block % kBlocks;
    Scales s{};
    if (kFormat == Format::kLevels || kFormat == Format::kAffine) {
      for (unsigned h = 0; h < 2; ++h) {
        s.scale[h] = bits_float(load4(u + 4 * (h * kPanelRows + row)));
        if (kFormat == Format::kAffine) s.min[h] = bits_float(load4(u + 4 * ((2 + h) * kPanelRows + row)));
      }
      return s;
    }
    s.scale[0] = half_at(u, row);
    if (kFormat == Format::kIQ4_XS) {
      s.scale[0] *= static_cast<float>(static_cast<signed char>(u[64 + part * kPanelRows + row]));
    }
    if (kFormat == Format::kQ4_K || kFormat == Format::kQ5_K) {
      const Byte* small = codes(u, block) - 2 * kPanelRows;
      s.min[0] = half_at(u + 64, row) * static_cast<float>(small[kPanelRows + row]);
      s.scale[0] *= static_cast<float>(small[row]);
    }
    if (kFormat == Format::kQ6_K) {
      const Byte* small = codes(u, block) - 2 * kPanelRows;
      const float scale = s.scale[0];
      s.scale[0] = scale * static_cast<float>(static_cast<signed char>(small[row]));
      s.scale[1] = scale * static_cast<float>(static_cast<signed char>(small[kPanelRows + row]));
    }
    return s;
  }

  // sum <- sum + one block's product by fused additions, in the order of the CPU's kernels. The products are whole
  // numbers, exact, zero subtracted: of all 32 columns in products[0], or of each half.
  DEVICE static float add(float sum, const Scales& w, const float (&products)[2], const BlockSums& x) {
    sum = fmaf(products[0], w.scale[0] * x.scale, sum);
    if (!kHasHalves) {
      if (kHasMins) sum = fmaf(-w.min[0], x.scale * static_cast<float>(x.sum), sum);
      return sum;
    }
    sum = fmaf(products[1], w.scale[1] * x.scale, sum);
    if (kHasMins) {
      sum = fmaf(-w.min[0], static_cast<float>(x.first) * x.scale, sum);
      sum = fmaf(-w.min[1], static_cast<float>(x.sum - x.first) * x.scale, sum);
    }
    return sum;
  }
};

// Whole numbers below 2^22 become floats by an addition: as a sum of products grows from kWhole, its bits are those of
// the float 1.5 2^23 + sum. The instruction that converts is several times as slow.
inline constexpr int kWhole = 0x4b400000;
DEVICE float whole(int from_kWhole) { return bits_float(static_cast<unsigned>(from_kWhole)) - 0x1.8p23f; }

// Column i of the 16 bytes of floats that a row has in a unit.
template <Format kFormat>
DEVICE float float_column(const uint4& raw, unsigned i) {
  if (kFormat == Format::kF32) return bits_float(i == 0 ? raw.x : i == 1 ? raw.y : i == 2 ? raw.z : raw.w);
  const unsigned word = i / 2 == 0 ? raw.x : i / 2 == 1 ? raw.y : i / 2 == 2 ? raw.z : raw.w;
  const unsigned bits = word >> 16 * (i % 2) & 0xffffu;
  return kFormat == Format::kF16 ? half_to_float(static_cast<unsigned short>(bits)) : bits_float(bits << 16);
}

// Calls visit(FormatTag<format>{}) for the run-time format.
template <Format kFormat>
struct FormatTag {
  static constexpr Format kValue = kFormat;
};
template <class Visit>
DEVICE void with_format(Format format, const Visit& visit) {
  switch (format) {
    case Format::kQ4_0:
      return visit(FormatTag<Format::kQ4_0>{});
    case Format::kIQ4_NL:
      return visit(FormatTag<Format::kIQ4_NL>{});
    case Format::kIQ4_XS:
      return visit(FormatTag<Format::kIQ4_XS>{});
    case Format::kQ4_K:
      return visit(FormatTag<Format::kQ4_K>{});
    case Format::kQ5_K:
      return visit(FormatTag<Format::kQ5_K>{});
    case Format::kQ6_K:
      return visit(FormatTag<Format::kQ6_K>{});
    case Format::kQ8_0:
      return visit(FormatTag<Format::kQ8_0>{});
    case Format::kLevels:
      return visit(FormatTag<Format::kLevels>{});
    case Format::kAffine:
      return visit(FormatTag<Format::kAffine>{});
    case Format::kF32:
      return visit(FormatTag<Format::kF32>{});
    case Format::kF16:
      return visit(FormatTag<Format::kF16>{});
    case Format::kBF16:
      return visit(FormatTag<Format::kBF16>{});
  }
}

}  // namespace qwen35::cuda
