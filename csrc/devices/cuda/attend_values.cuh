// The outputs of a tile, O^T += V^T P^T: a warp takes 32 elements of the head and all keys.
#pragma once

#include "devices/cuda/attend_scores.cuh"

namespace qwen35::cuda {

// Four elements of four keys, keys[i].x and .y the elements 0, 1 and 2, 3 of key 4 t + i, as operands of two products
// over sixteen keys.
DEVICE void operands(unsigned (&first)[4], unsigned (&second)[4], const uint2 (&keys)[4]) {
  for (unsigned i = 0; i < 2; ++i) {
    first[2 * i] = __byte_perm(keys[2 * i].x, keys[2 * i + 1].x, 0x5410u);
    first[2 * i + 1] = __byte_perm(keys[2 * i].x, keys[2 * i + 1].x, 0x7632u);
    second[2 * i] = __byte_perm(keys[2 * i].y, keys[2 * i + 1].y, 0x5410u);
    second[2 * i + 1] = __byte_perm(keys[2 * i].y, keys[2 * i + 1].y, 0x7632u);
  }
}

// 1 in fp16 where a half of the word is an infinity or NaN, which then becomes 0.
DEVICE unsigned take_damage(unsigned& word) {
  unsigned marks = 0;
  for (unsigned i = 0; i < 2; ++i) {
    if ((word >> 16 * i & 0x7c00u) != 0x7c00u) continue;
    marks |= 0x3c00u << 16 * i;
    word &= ~(0xffffu << 16 * i);
  }
  return marks;
}

// Marks of damage reach the queries that see the key: there the result is NaN. `position` is the lane's first key.
template <unsigned kTiles>
DEVICE void add_damage(Partial<kTiles>& partial, const AttendRoom<kTiles>& room, const uint2 (&marks)[4],
                       unsigned position) {
  unsigned first[4], second[4];
  operands(first, second, marks);
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    const unsigned limit = room.limits[n * kTileQueries + fragment_row()];
    unsigned sees[2] = {};
    for (unsigned i = 0; i < 4; ++i) {
      if (position + i < limit) sees[i / 2] |= 0x3c00u << i % 2 * 16;
    }
    float d[2][4] = {};
    mma_f16_k16(d[0], first, sees);
    mma_f16_k16(d[1], second, sees);
    for (unsigned j = 0; j < 2; ++j) {
      for (unsigned r = 0; r < 4; ++r) {
        if (d[j][r] > 0.0f) partial.values[j][n][r] = bits_float(0x7fc00000u);
      }
    }
  }
}

// Values [256, A] in fp16, `chunks` times sixteen keys from `slot` on, which is position `first`. Keys from
// `first_unsure` on may be unknown to a query, or hold anything: 0 times what they hold shall be 0.
template <unsigned kTiles>
DEVICE void add_halves(Partial<kTiles>& partial, const AttendRoom<kTiles>& room, const Byte* values, unsigned slot,
                       unsigned width, unsigned chunks, unsigned first, unsigned first_unsure) {
  const unsigned element = first_element(), t = fragment_column();
  if (warp_id() * kWarp >= width) return;
  const Byte* from = values + ((slot + 4 * t) * width + element) * 2;
  UNROLL(2)
  for (unsigned k = 0; k < chunks; ++k) {
    uint2 keys[4] = {};
    for (unsigned i = 0; i < 4 && element < width; ++i) keys[i] = load8(from + (16 * k + i) * width * 2);
    if (first + 16 * k >= first_unsure) {
      uint2 marks[4];
      unsigned any = 0;
      for (unsigned i = 0; i < 4; ++i) {
        marks[i] = {take_damage(keys[i].x), take_damage(keys[i].y)};
        any |= marks[i].x | marks[i].y;
      }
      if (__any_sync(kAllLanes, any != 0)) add_damage(partial, room, marks, first + 16 * k + 4 * t);
    }
    unsigned a[2][4];
    operands(a[0], a[1], keys);
    UNROLL(4)
    for (unsigned n = 0; n < kTiles; ++n) {
      const uint4 p = room.p.halves[k][n][lane_id()];
      for (unsigned j = 0; j < 2; ++j) {
        mma_f16_k16(partial.values[j][n], a[j], {p.x, p.y});
        mma_f16_k16(partial.values[j][n], a[j], {p.z, p.w});
      }
    }
  }
}

template <unsigned kTiles>
DEVICE void add_floats(Partial<kTiles>& partial, const AttendRoom<kTiles>& room, const Byte* values, unsigned slot,
                       unsigned width, unsigned first) {
  const unsigned element = first_element();
  if (element >= width) return;
  const float* from = reinterpret_cast<const float*>(values) + slot * width + element;
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    UNROLL(4)
    for (unsigned r = 0; r < 4; ++r) {
      const unsigned q = query_of(n, r), limit = room.limits[q];
      float sums[2] = {partial.values[0][n][r], partial.values[1][n][r]};
      UNROLL(1)
      for (unsigned key = 0; key < kTileKeys && first + key < limit; ++key) {
        const float p = room.p.rows[q][key];
        sums[0] = fmaf(p, from[key * width + r / 2], sums[0]);
        sums[1] = fmaf(p, from[key * width + 2 + r / 2], sums[1]);
      }
      partial.values[0][n][r] = sums[0];
      partial.values[1][n][r] = sums[1];
    }
  }
}

template <bool kIsWide, unsigned kTiles>
DEVICE void add_codes(Partial<kTiles>& partial, const AttendRoom<kTiles>& room, const QuantisedHead& head,
                      unsigned slot, unsigned width) {
  if (warp_id() * kWarp >= width) return;
  UNROLL(2)
  for (unsigned k = 0; k < kTileBlocks; ++k) {
    const unsigned block = slot / kBlockColumns + k;
    const Byte* tile = head.values + (block * (width / 16) + 2 * warp_id()) * kCodeTileBytes<kIsWide>;
    const uint2 scales = load8_read_only(head.value_scales + (block * width + first_element()) * 2);
    UNROLL(2)
    for (unsigned j = 0; j < 2; ++j) {
      unsigned a[4];
      load_codes<kIsWide>(a, tile + j * kCodeTileBytes<kIsWide>);
      const unsigned both = j == 0 ? scales.x : scales.y;
      const float scale[2] = {half_to_float(static_cast<unsigned short>(both & 0xffffu)),
                              half_to_float(static_cast<unsigned short>(both >> 16))};
      UNROLL(4)
      for (unsigned n = 0; n < kTiles; ++n) {
        const uint2 p = room.p.codes[k][n][lane_id()];
        int d[4] = {};
        mma_s8_k32(d, a, {p.x, p.y});
        for (unsigned r = 0; r < 4; ++r) {
          float& value = partial.values[j][n][r];
          value = fmaf(static_cast<float>(d[r]), scale[r / 2] * room.p_scales[k][query_of(n, r)], value);
        }
      }
    }
  }
}

}  // namespace qwen35::cuda
