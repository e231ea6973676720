// What a block of threads of attend holds: its queries, and the state of their softmax.
//
// Scores are S^T = K Q^T and outputs O^T = V^T P^T, so that the queries are the columns of the tensor cores' products,
// and a column's bits do not depend on its neighbours. A tile is 128 keys: a warp computes the scores of 16 of them
// with all queries, then 32 elements of the head of all outputs. With g = lane / 4 and t = lane % 4, s[n][r] is the
// score of the warp's key g + 8 (r / 2) and query 8 n + 2 t + r % 2; values[j][n][r] belongs to element 32 warp + 4 g +
// 2 j + r / 2 of that query.
//
// fp16 has 11 bits, so queries and probabilities are sums of two such numbers, which leave an error of 2^-22. Each
// query is multiplied by a power of two first, and all probabilities by 4096, so that the second number is not too
// small.
#pragma once

#include "devices/cuda/append.cuh"
#include "devices/cuda/quantise.cuh"

namespace qwen35::cuda {

inline constexpr unsigned kTileKeys = 128;
inline constexpr unsigned kWarpKeys = kTileKeys / kAttendWarps;      // rows of a product
inline constexpr unsigned kChunks = kMostHeadWidth / kBlockColumns;  // of a head, 32 elements each
inline constexpr unsigned kTileBlocks = kTileKeys / kBlockColumns;
inline constexpr float kProbabilityScale = 4096.0f;
inline constexpr float kLowest = -3.402823466e38f;
// Keys from the query's position on, rounded down to this, may be unknown to some queries of a block, or not be there.
inline constexpr unsigned kUnsureKeys = 64;

// Shared memory. A thread of the products reads its operands with one load: [..., lane].
template <unsigned kTiles>
struct AttendRoom {
  static constexpr unsigned kQueries = kTiles * kTileQueries;

  union Queries {
    uint4 halves[kChunks][kTiles][2][kWarp];  // fp16, then what it leaves
    float rows[kQueries][kMostHeadWidth];     // fp32; the results at the end
  } queries;
  union Probabilities {
    uint4 halves[kAttendWarps][kTiles][kWarp];  // four keys in fp16, then what they leave
    float rows[kQueries][kTileKeys];
    uint2 codes[kTileBlocks][kTiles][kWarp];
    float parts[kMostSpans][2][kQueries];  // m and sum of the spans, when they are merged
  } p;
  uint2 codes[kChunks][kTiles][kWarp];  // queries in 8 bits, scale by scale
  float code_scales[kChunks][kQueries];
  float p_scales[kTileBlocks][kQueries];
  float most[kAttendWarps][kQueries];  // scores
  float sums[kAttendWarps][kQueries];
  float unscale[kQueries];    // takes the power of two back
  unsigned limits[kQueries];  // keys that the query sees
  unsigned is_last;
};

// Of the thread's queries 8 n + 2 t + c, m and sum at [n][c].
template <unsigned kTiles>
struct Partial {
  float m[kTiles][2];  // the largest score
  float sum[kTiles][2];
  float values[2][kTiles][4];
};

template <unsigned kTiles>
using Scores = float[kTiles][4];

DEVICE unsigned fragment_row() { return lane_id() / 4; }
DEVICE unsigned fragment_column() { return lane_id() % 4; }
// The query of s[n][r] and values[j][n][r].
DEVICE unsigned query_of(unsigned n, unsigned r) { return kTileQueries * n + 2 * fragment_column() + r % 2; }
// The head's element of values[0][n][0].
DEVICE unsigned first_element() { return kWarp * warp_id() + 4 * fragment_row(); }

// The queries of one block: all heads of one key/value head for neighbouring rows of one page. Query q is head
// kv_head * group + q % group of row `row` + q / group.
struct Task {
  unsigned row;
  unsigned count;     // queries
  unsigned position;  // of the first row
  unsigned kv_head;

  DEVICE unsigned own_page() const { return position / kPageKeys; }
  DEVICE unsigned first_unsure() const { return position / kUnsureKeys * kUnsureKeys; }
};

DEVICE bool appends(const AttendArgs& args) { return args.append.k.data != nullptr; }

// A power of two that brings numbers of this magnitude to 2^13 and on.
DEVICE unsigned exponent_of(float largest) {
  const unsigned exponent = float_bits(largest) >> 23;
  return exponent < 14 ? 14 : exponent;
}

template <unsigned kTiles>
DEVICE void put_halves(AttendRoom<kTiles>& room, unsigned q, const Head& x, float factor) {
  auto* halves = reinterpret_cast<unsigned short*>(room.queries.halves);
  const unsigned n = q / kTileQueries, lane = lane_id(), to = q % kTileQueries * 4 + lane / 8;
  for (unsigned c = 0; c < kChunks; ++c) {
    const float scaled = x[c] * factor;
    const unsigned short high = float_to_half(scaled);
    const unsigned at = (c * kTiles + n) * 2;
    halves[(at * kWarp + to) * 8 + lane % 8] = high;
    halves[((at + 1) * kWarp + to) * 8 + lane % 8] = float_to_half(scaled - half_to_float(high));
  }
}

// Byte of column `column` of 32 and query q in an operand of codes.
DEVICE unsigned code_at(unsigned q, unsigned column) {
  return (q % kTileQueries * 4 + column % 16 / 4) * 8 + column / 16 * 4 + column % 4;
}

template <unsigned kTiles>
DEVICE void put_codes(AttendRoom<kTiles>& room, unsigned q, const Head& x, unsigned width) {
  auto* codes = reinterpret_cast<signed char*>(room.codes);
  for (unsigned c = 0; c < kChunks; ++c) {
    if (c * kBlockColumns >= width) break;
    const BlockScale s = block_scale(lane_largest<32>(magnitude(x[c])));
    const unsigned tile = (c * kTiles + q / kTileQueries) * kWarp * 8;
    codes[tile + code_at(q, lane_id())] = static_cast<signed char>(s.factor == 0.0f ? 0 : code_of(x[c], s.factor));
    if (lane_id() == 0) room.code_scales[c][q] = s.scale;
  }
}

// Behind the room of a block that also appends.
template <unsigned kTiles>
DEVICE HeadRoom& head_room(AttendRoom<kTiles>& room) {
  static_assert(sizeof(HeadRoom) == kHeadRoomBytes && kAppendWarps == kAttendWarps);
  return *reinterpret_cast<HeadRoom*>(&room + 1);
}

// Queries into shared memory in the forms that pages of this format need. The threads meet afterwards.
template <unsigned kTiles>
DEVICE void load_queries(AttendRoom<kTiles>& room, const AttendArgs& args, const Task& task, unsigned format) {
  const unsigned width = args.layer.width;
  for (unsigned q = warp_id(); q < AttendRoom<kTiles>::kQueries; q += kAttendWarps) {
    const bool is_live = q < task.count;
    const unsigned head = task.kv_head * args.group + q % args.group, row = task.row + q / args.group;
    Head x{};
    if (is_live) load_head(x, args.q_gate.data + row * args.q_gate.stride + head * 2 * width, width);
    if (is_live && appends(args)) prepare_head(x, head_room(room), args.append, args.append.q_norm, width, format);
    if (lane_id() == 0) room.limits[q] = is_live ? task.position + q / args.group + 1 : 0;
    if (format == kKvF32) {
      for (unsigned i = 0; i < kHeadParts; ++i) room.queries.rows[q][lane_id() + kWarp * i] = x[i];
      if (lane_id() == 0) room.unscale[q] = 1.0f;
      continue;
    }
    unsigned largest = 0;
    for (unsigned i = 0; i < kHeadParts; ++i) largest = magnitude(x[i]) > largest ? magnitude(x[i]) : largest;
    const unsigned exponent = exponent_of(bits_float(lane_largest<32>(largest)));
    put_halves(room, q, x, bits_float((267 - exponent) << 23));
    if (lane_id() == 0) room.unscale[q] = bits_float((exponent - 13) << 23);
    if (is_quantised(format)) put_codes(room, q, x, width);
  }
  __syncthreads();
}

// (m, sum, values) <- itself and a partial softmax over later keys.
template <unsigned kTiles>
DEVICE void combine(Partial<kTiles>& total, const Partial<kTiles>& later) {
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    UNROLL(2)
    for (unsigned c = 0; c < 2; ++c) {
      const float both = later.m[n][c] > total.m[n][c] ? later.m[n][c] : total.m[n][c];
      const float alpha = exp_of(total.m[n][c] - both), later_alpha = exp_of(later.m[n][c] - both);
      total.m[n][c] = both;
      total.sum[n][c] = fmaf(later.sum[n][c], later_alpha, total.sum[n][c] * alpha);
      for (unsigned j = 0; j < 2; ++j) {
        for (unsigned r = c; r < 4; r += 2) {
          total.values[j][n][r] = fmaf(later.values[j][n][r], later_alpha, total.values[j][n][r] * alpha);
        }
      }
    }
  }
}

// A partial softmax in the card's memory: values [8 kTiles][threads], m and sum [2][queries].
template <unsigned kTiles>
struct Part {
  static constexpr unsigned kQueries = kTiles * kTileQueries;
  static constexpr unsigned kFloats = attend_part_floats(kTiles);
  float* at;

  DEVICE float* sums() const { return at + 8 * kTiles * kAttendThreads; }

  DEVICE void store(const Partial<kTiles>& partial) const {
    const float* values = &partial.values[0][0][0];
    UNROLL(32)
    for (unsigned i = 0; i < 8 * kTiles; ++i) at[i * kAttendThreads + threadIdx.x] = values[i];
    if (warp_id() != 0 || fragment_row() != 0) return;
    UNROLL(4)
    for (unsigned n = 0; n < kTiles; ++n) {
      for (unsigned c = 0; c < 2; ++c) {
        sums()[query_of(n, c)] = partial.m[n][c];
        sums()[kQueries + query_of(n, c)] = partial.sum[n][c];
      }
    }
  }
  DEVICE void load_values(Partial<kTiles>& partial) const {
    float* values = &partial.values[0][0][0];
    UNROLL(32)
    for (unsigned i = 0; i < 8 * kTiles; ++i) values[i] = at[i * kAttendThreads + threadIdx.x];
  }
  // m and sum, here or as they were read from here.
  DEVICE static void load_sums(Partial<kTiles>& partial, const float* sums) {
    UNROLL(4)
    for (unsigned n = 0; n < kTiles; ++n) {
      for (unsigned c = 0; c < 2; ++c) {
        partial.m[n][c] = sums[query_of(n, c)];
        partial.sum[n][c] = sums[kQueries + query_of(n, c)];
      }
    }
  }
};

// All `count` parts, in order. One block of threads does it while all others are done, so several are read at a time.
template <unsigned kTiles>
DEVICE void merge_parts(Partial<kTiles>& total, AttendRoom<kTiles>& room, const float* parts, unsigned count) {
  using P = Part<kTiles>;
  constexpr unsigned kBeside = kTiles == 1 ? 8 : 2;
  const auto part = [&](unsigned i) { return P{const_cast<float*>(parts) + i * P::kFloats}; };
  for (unsigned i = threadIdx.x; i < count * 2 * P::kQueries; i += kAttendThreads) {
    (&room.p.parts[0][0][0])[i] = part(i / (2 * P::kQueries)).sums()[i % (2 * P::kQueries)];
  }
  __syncthreads();
  UNROLL(1)
  for (unsigned first = 0; first < count; first += kBeside) {
    Partial<kTiles> some[kBeside];
    UNROLL(8)
    for (unsigned i = 0; i < kBeside; ++i) {
      if (first + i < count) part(first + i).load_values(some[i]);
    }
    UNROLL(8)
    for (unsigned i = 0; i < kBeside; ++i) {
      if (first + i >= count) continue;
      P::load_sums(some[i], &room.p.parts[first + i][0][0]);
      if (first + i == 0) {
        total = some[i];
      } else {
        combine(total, some[i]);
      }
    }
  }
}

}  // namespace qwen35::cuda
