// The scores of a tile, s += K Q^T for the warp's sixteen keys, and the step of the online softmax that follows
// (Milakov & Gimelshein 2018).
#pragma once

#include "devices/cuda/attend_tile.cuh"
#include "devices/cuda/panels.cuh"

namespace qwen35::cuda {

// Keys [256, A] in fp16, the newest of which this block may just have written: a lane loads eight neighbouring elements
// of two keys, the operands of two products; the columns of both operands are in the same order, which is free.
template <unsigned kTiles>
DEVICE void score_halves(Scores<kTiles>& s, const AttendRoom<kTiles>& room, const Byte* keys, unsigned slot,
                         unsigned width) {
  const Byte* key = keys + (slot + fragment_row()) * width * 2;
  const unsigned column = 8 * fragment_column();
  UNROLL(4)
  for (unsigned c = 0; c < (width + 31) / 32; ++c) {
    const unsigned at = c * 32 + column;
    uint4 a{}, b{};
    if (at < width) {
      a = load16(key + at * 2);
      b = load16(key + (8 * width + at) * 2);
    }
    const unsigned first[4] = {a.x, b.x, a.y, b.y}, second[4] = {a.z, b.z, a.w, b.w};
    UNROLL(4)
    for (unsigned n = 0; n < kTiles; ++n) {
      UNROLL(2)
      for (unsigned part = 0; part < 2; ++part) {
        const uint4 q = room.queries.halves[c][n][part][lane_id()];
        mma_f16_k16(s[n], first, {q.x, q.y});
        mma_f16_k16(s[n], second, {q.z, q.w});
      }
    }
  }
}

template <unsigned kTiles>
DEVICE void score_floats(Scores<kTiles>& s, const AttendRoom<kTiles>& room, const Byte* keys, unsigned slot,
                         unsigned width) {
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    UNROLL(4)
    for (unsigned r = 0; r < 4; ++r) {
      const float* key = reinterpret_cast<const float*>(keys) + (slot + fragment_row() + r / 2 * 8) * width;
      const float* query = room.queries.rows[query_of(n, r)];
      UNROLL(1)
      for (unsigned a = 0; a < width; ++a) s[n][r] = fmaf(query[a], key[a], s[n][r]);
    }
  }
}

// The operand of 16 rows and 32 columns of codes.
template <bool kIsWide>
DEVICE void load_codes(unsigned (&a)[4], const Byte* tile) {
  if (kIsWide) {
    const uint4 words = load16_read_only(tile + lane_id() * 16);
    a[0] = words.x, a[1] = words.y, a[2] = words.z, a[3] = words.w;
  } else {
    const uint2 words = load8_read_only(tile + lane_id() * 8);
    const Words first = look_up(iq4_levels(), words.x), second = look_up(iq4_levels(), words.y);
    a[0] = static_cast<unsigned>(first.first), a[1] = static_cast<unsigned>(second.first);
    a[2] = static_cast<unsigned>(first.second), a[3] = static_cast<unsigned>(second.second);
  }
}

template <bool kIsWide, unsigned kTiles>
DEVICE void score_codes(Scores<kTiles>& s, const AttendRoom<kTiles>& room, const QuantisedHead& head, unsigned slot,
                        unsigned width) {
  UNROLL(4)
  for (unsigned c = 0; c < width / kBlockColumns; ++c) {
    unsigned a[4];
    load_codes<kIsWide>(a, head.keys + (c * (kPageKeys / 16) + slot / 16) * kCodeTileBytes<kIsWide>);
    const unsigned first = c * kPageKeys + slot + fragment_row();
    const float scales[2] = {half_at(head.key_scales, first), half_at(head.key_scales, first + 8)};
    UNROLL(4)
    for (unsigned n = 0; n < kTiles; ++n) {
      const uint2 q = room.codes[c][n][lane_id()];
      int d[4] = {};
      mma_s8_k32(d, a, {q.x, q.y});
      for (unsigned r = 0; r < 4; ++r) {
        s[n][r] = fmaf(static_cast<float>(d[r]), scales[r / 2] * room.code_scales[c][query_of(n, r)], s[n][r]);
      }
    }
  }
}

// How probabilities wait for the product with the values.
enum class PForm { kHalves, kFloats, kCodes };

// Probability of the warp's key `key` for query q in two halves.
template <unsigned kTiles>
DEVICE void put_half(AttendRoom<kTiles>& room, unsigned key, unsigned q, float p) {
  auto* halves =
      reinterpret_cast<unsigned short*>(&room.p.halves[warp_id()][q / kTileQueries][q % kTileQueries * 4 + key / 4]);
  const unsigned short high = float_to_half(p);
  halves[key % 4] = high;
  halves[4 + key % 4] = float_to_half(p - half_to_float(high));
}

// Two warps share a block of 32 keys; its largest probability is that of its largest score.
template <unsigned kTiles>
DEVICE void put_p_codes(AttendRoom<kTiles>& room, unsigned q, float m, const float (&p)[2]) {
  const unsigned block = warp_id() / 2, column = warp_id() % 2 * kWarpKeys + fragment_row();
  const float first = room.most[2 * block][q], second = room.most[2 * block + 1][q];
  const float largest = exp_of((first > second ? first : second) - m) * kProbabilityScale;
  const BlockScale s = block_scale(magnitude(largest));
  auto* codes = reinterpret_cast<signed char*>(room.p.codes[block][q / kTileQueries]);
  for (unsigned i = 0; i < 2; ++i) {
    const bool is_number = p[i] <= largest;  // a NaN makes the query's sum NaN
    codes[code_at(q, column + 8 * i)] =
        static_cast<signed char>(s.factor == 0.0f || !is_number ? 0 : code_of(p[i], s.factor));
  }
  if (column == 0) room.p_scales[block][q] = s.scale;
}

template <PForm kForm, unsigned kTiles>
DEVICE void softmax_step(AttendRoom<kTiles>& room, Partial<kTiles>& partial, const Scores<kTiles>& s) {
  const unsigned g = fragment_row();
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    UNROLL(2)
    for (unsigned c = 0; c < 2; ++c) {
      float most = s[n][c] > kLowest ? s[n][c] : kLowest;
      most = s[n][2 + c] > most ? s[n][2 + c] : most;
      for (int step = 4; step < 32; step *= 2) {
        const float other = __shfl_xor_sync(kAllLanes, most, step);
        most = other > most ? other : most;
      }
      if (g == 0) room.most[warp_id()][query_of(n, c)] = most;
    }
  }
  __syncthreads();
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    UNROLL(2)
    for (unsigned c = 0; c < 2; ++c) {
      const unsigned q = query_of(n, c);
      float m = partial.m[n][c];
      for (unsigned w = 0; w < kAttendWarps; ++w) m = room.most[w][q] > m ? room.most[w][q] : m;
      const float alpha = exp_of(partial.m[n][c] - m);
      const float p[2] = {exp_of(s[n][c] - m) * kProbabilityScale, exp_of(s[n][2 + c] - m) * kProbabilityScale};
      partial.m[n][c] = m;
      partial.sum[n][c] = fmaf(partial.sum[n][c], alpha, p[0] + p[1]);
      for (unsigned j = 0; j < 2; ++j) {
        for (unsigned r = c; r < 4; r += 2) partial.values[j][n][r] *= alpha;
      }
      if (kForm == PForm::kCodes) put_p_codes(room, q, m, p);
      for (unsigned i = 0; i < 2; ++i) {
        if (kForm == PForm::kHalves) put_half(room, g + 8 * i, q, p[i]);
        if (kForm == PForm::kFloats) room.p.rows[q][warp_id() * kWarpKeys + g + 8 * i] = p[i];
      }
    }
  }
  __syncthreads();
}

}  // namespace qwen35::cuda
