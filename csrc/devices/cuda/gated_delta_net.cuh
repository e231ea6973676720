// All of a Gated DeltaNet layer between its projections (docs/architecture.md 2.2 to 2.8): convolution, unit queries
// and keys, the delta rule, gated norm, and the codes of the result.
//
// A block of threads takes one value head of one segment, from its first row to its last, kDeltaTile rows at a time. S
// stays in registers: four lanes share a column, lane i of them holds its elements of keys 16 j + 4 i to 16 j + 4 i
// + 3. Keys behind Dk, up to whole sixteens, are zeros. A row is always the same sequence of operations, so cutting
// rows into passes changes no bit.
#pragma once

#include "devices/cuda/math.cuh"
#include "devices/cuda/quantise.cuh"

namespace qwen35::cuda {

inline constexpr unsigned kDeltaTile = 16;
inline constexpr unsigned kMostKeyGroups = kMostKeyWidth / kKeyGroup;
inline constexpr float kUnitEpsilon = 1e-6f;  // added to the sum of squares, docs/architecture.md 2.3

struct alignas(16) DeltaTile {
  float query[kDeltaTile][kMostKeyWidth];
  float key[kDeltaTile][kMostKeyWidth];
  float value[kDeltaTile][kMostValueWidth];  // then the outputs
  float decay[kDeltaTile];
  float beta[kDeltaTile];
};

// One head of one segment.
struct DeltaHead {
  const DeltaArgs& args;
  const SegmentView& segment;
  unsigned head;
  unsigned key_head;
  float* window;  // [window_rows, C]: the row of position p is row p % window_rows
  float* state;   // [Dv / 8, key groups, 32, 4]: the order in which a warp holds it
  float* keys;    // [pending, 16 key groups]
  float* deltas;  // [pending, Dv]
  float* decays;  // [pending]

  DEVICE DeltaHead(const DeltaArgs& a, const SegmentView& s, unsigned h) : args(a), segment(s), head(h) {
    const StateLayout& at = a.layout;
    Byte* layer = s.state + a.layer * at.bytes;
    const auto floats = [layer](unsigned long long offset) { return reinterpret_cast<float*>(layer + offset); };
    key_head = h % a.shape.key_heads;
    window = floats(at.window);
    state = floats(at.state) + h * a.shape.value_width * padded_keys();
    keys = floats(at.keys) + h * at.pending * padded_keys();
    deltas = floats(at.deltas) + h * at.pending * a.shape.value_width;
    decays = floats(at.decays) + h * at.pending;
  }

  DEVICE unsigned key_groups() const { return (args.shape.key_width + kKeyGroup - 1) / kKeyGroup; }
  DEVICE unsigned long long padded_keys() const { return key_groups() * kKeyGroup; }
  DEVICE unsigned channels() const {
    return 2 * args.shape.key_heads * args.shape.key_width + args.shape.value_heads * args.shape.value_width;
  }

  // What comes into the convolution at row `row` of the segment, which may be one of the passes before.
  DEVICE float input(long long row, unsigned channel) const {
    if (row >= 0) return args.qkv.data[(segment.first + row) * args.qkv.stride + channel];
    const long long position = segment.position + row;
    if (position < 0) return 0.0f;
    return window[position % args.layout.window_rows * static_cast<unsigned long long>(channels()) + channel];
  }
  DEVICE float convolved(long long row, unsigned channel) const {
    const float* tap = args.conv + 4ull * channel;
    float sum = input(row - 3, channel) * tap[0];
    sum = fmaf(input(row - 2, channel), tap[1], sum);
    sum = fmaf(input(row - 1, channel), tap[2], sum);
    sum = fmaf(input(row, channel), tap[3], sum);
    return silu(sum);
  }

  // Which of a row's channels are this head's: queries, keys, values.
  DEVICE unsigned channel(unsigned i) const {
    const unsigned dk = args.shape.key_width, all_keys = args.shape.key_heads * dk;
    if (i < dk) return key_head * dk + i;
    if (i < 2 * dk) return all_keys + key_head * dk + i - dk;
    return 2 * all_keys + head * args.shape.value_width + i - 2 * dk;
  }

  DEVICE void read(DeltaTile& tile, unsigned first, unsigned count) const {
    const unsigned dk = args.shape.key_width, width = 2 * dk + args.shape.value_width;
    for (unsigned i = threadIdx.x; i < count * width; i += blockDim.x) {
      const unsigned t = i / width, c = i % width;
      const float x = convolved(first + t, channel(c));
      if (c < dk) {
        tile.query[t][c] = x;
      } else if (c < 2 * dk) {
        tile.key[t][c - dk] = x;
      } else {
        tile.value[t][c - 2 * dk] = x;
      }
    }
    for (unsigned i = threadIdx.x; i < count * kKeyGroup; i += blockDim.x) {
      const unsigned t = i / kKeyGroup, k = dk + i % kKeyGroup;
      if (k < padded_keys()) tile.query[t][k] = tile.key[t][k] = 0.0f;
    }
    if (threadIdx.x >= count) return;
    const unsigned t = threadIdx.x;
    const unsigned long long row = segment.first + first + t;
    const float a = args.a.data[row * args.a.stride + head], b = args.b.data[row * args.b.stride + head];
    tile.decay[t] = exp_of(args.ssm_a[head] * softplus(a + args.dt_bias[head]));
    tile.beta[t] = sigmoid(b);
  }

  // A warp at a time takes one query or key.
  DEVICE void normalise(DeltaTile& tile, unsigned count) const {
    const unsigned dk = args.shape.key_width;
    const auto query_scale = static_cast<float>(1.0 / sqrt(static_cast<double>(dk)));
    for (unsigned i = warp_id(); i < 2 * count; i += blockDim.x / kWarp) {
      const bool is_query = i < count;
      float* x = is_query ? tile.query[i] : tile.key[i - count];
      float squares = 0.0f;
      for (unsigned k = lane_id(); k < dk; k += kWarp) squares = fmaf(x[k], x[k], squares);
      squares = lane_sum(squares);
      const double length = sqrt(static_cast<double>(squares) + static_cast<double>(kUnitEpsilon));
      const auto factor = static_cast<float>((is_query ? static_cast<double>(query_scale) : 1.0) / length);
      for (unsigned k = lane_id(); k < dk; k += kWarp) x[k] *= factor;
    }
  }

  // out = rms_norm(o) * silu(z); a warp at a time takes one row.
  DEVICE void finish(const DeltaTile& tile, unsigned first, unsigned count, float eps) const {
    const unsigned dv = args.shape.value_width;
    for (unsigned t = warp_id(); t < count; t += blockDim.x / kWarp) {
      const unsigned long long row = segment.first + first + t;
      const unsigned at = 4 * lane_id();
      float o[4] = {}, squares = 0.0f;
      for (unsigned i = 0; i < 4; ++i) {
        if (at + i < dv) o[i] = tile.value[t][at + i];
        squares = fmaf(o[i], o[i], squares);
      }
      const double mean = static_cast<double>(lane_sum(squares)) / static_cast<double>(dv);
      const auto scale = static_cast<float>(1.0 / sqrt(mean + static_cast<double>(eps)));
      const float* z = args.z.data + row * args.z.stride + head * dv;
      float* out = args.out.data + row * args.out.stride + head * dv;
      for (unsigned i = 0; i < 4; ++i) {
        if (at + i < dv) out[at + i] = o[i] = o[i] * scale * args.norm[at + i] * silu(z[at + i]);
      }
      if (args.quantised.codes == nullptr) continue;
      const unsigned long long blocks = args.out.cols / kBlockColumns;
      quantise_four(args.quantised, row * blocks + (head * dv + at) / kBlockColumns, o, at < dv);
    }
  }

  // The rows of this head's channels that the next pass may look back to. Queries and keys are written by the first of
  // the value heads that share them.
  DEVICE void keep_window(unsigned first, unsigned count) const {
    const unsigned dk = args.shape.key_width, width = 2 * dk + args.shape.value_width;
    for (unsigned i = threadIdx.x; i < count * width; i += blockDim.x) {
      const unsigned t = first + i / width, c = i % width;
      if (segment.count - t > args.layout.window_rows || (c < 2 * dk && head >= args.shape.key_heads)) continue;
      window[(segment.position + t) % args.layout.window_rows * static_cast<unsigned long long>(channels()) +
             channel(c)] = input(t, channel(c));
    }
  }
};

// A thread's part of S: one column, four keys of each group.
struct StateColumn {
  float4 s[kMostKeyGroups];
  unsigned column;
  unsigned lane;    // of the four
  unsigned groups;  // those behind are zero

  DEVICE explicit StateColumn(const DeltaHead& head)
      : column(threadIdx.x / kStateLanes), lane(threadIdx.x % kStateLanes), groups(head.key_groups()) {
    for (unsigned j = 0; j < kMostKeyGroups; ++j) {
      s[j] = j < groups ? reinterpret_cast<const float4*>(head.state)[place(j)] : float4{};
    }
  }
  DEVICE unsigned place(unsigned j) const { return (warp_id() * groups + j) * kWarp + lane_id(); }
  DEVICE void store(const DeltaHead& head) const {
    for (unsigned j = 0; j < kMostKeyGroups; ++j) {
      if (j < groups) reinterpret_cast<float4*>(head.state)[place(j)] = s[j];
    }
  }
  // The lane's elements of a vector over the keys, 16-byte aligned.
  DEVICE float4 part(const float* x, unsigned j) const {
    return reinterpret_cast<const float4*>(x)[j * kStateLanes + lane];
  }

  DEVICE void decay(float by) {
    for (unsigned j = 0; j < kMostKeyGroups; ++j) s[j] = {s[j].x * by, s[j].y * by, s[j].z * by, s[j].w * by};
  }
  // S + k d^T.
  DEVICE void add(const float* key, float delta) {
    for (unsigned j = 0; j < kMostKeyGroups; ++j) {
      if (j >= groups) continue;
      const float4 k = part(key, j);
      s[j] = {fmaf(k.x, delta, s[j].x), fmaf(k.y, delta, s[j].y), fmaf(k.z, delta, s[j].z), fmaf(k.w, delta, s[j].w)};
    }
  }
  // (S^T x) of the column, in every lane of it.
  DEVICE float read(const float* x) const {
    float sum = 0.0f;
    for (unsigned j = 0; j < kMostKeyGroups; ++j) {
      if (j >= groups) continue;
      const float4 v = part(x, j);
      sum = fmaf(v.w, s[j].w, fmaf(v.z, s[j].z, fmaf(v.y, s[j].y, fmaf(v.x, s[j].x, sum))));
    }
    return lane_sum<kStateLanes>(sum);
  }
};

DEVICE void step_rows(const DeltaHead& head, StateColumn& state, DeltaTile& tile, unsigned first, unsigned count) {
  const unsigned dv = head.args.shape.value_width, certain = head.segment.certain;
  const unsigned long long keys = head.padded_keys();
  for (unsigned t = 0; t < count; ++t) {
    if (first + t == certain) state.store(head);
    state.decay(tile.decay[t]);
    const float delta = tile.beta[t] * (tile.value[t][state.column] - state.read(tile.key[t]));
    state.add(tile.key[t], delta);
    const float out = state.read(tile.query[t]);
    __syncwarp();
    if (state.lane == 0) tile.value[t][state.column] = out;
    if (first + t < certain) continue;
    const unsigned row = first + t - certain;
    if (state.lane == 0) head.deltas[row * dv + state.column] = delta;
    if (threadIdx.x == 0) head.decays[row] = tile.decay[t];
    for (unsigned k = threadIdx.x; k < keys; k += blockDim.x) head.keys[row * keys + k] = tile.key[t][k];
  }
}

// Grid: (Hv, segments); 4 Dv threads. The window is kept here where a segment is so short that what is written is not
// read by another head's block; elsewhere by gated_delta_window.
KERNEL(gated_delta_net, kMostDeltaThreads)(DeltaArgs args) {
  await_predecessor();
  SHARED(DeltaTile, tile);
  const SegmentView& segment = args.step.segments[blockIdx.y];
  if (segment.count == 0) return;
  const DeltaHead head(args, segment, blockIdx.x);
  StateColumn state(head);
  for (unsigned i = 0; i < segment.position - segment.committed; ++i) {  // uncertain before, certain now
    state.decay(head.decays[i]);
    state.add(head.keys + i * head.padded_keys(), head.deltas[i * args.shape.value_width + state.column]);
  }
  for (unsigned first = 0; first < segment.count; first += kDeltaTile) {
    const unsigned left = segment.count - first, count = left < kDeltaTile ? left : kDeltaTile;
    __syncthreads();
    head.read(tile, first, count);
    __syncthreads();
    head.normalise(tile, count);
    __syncthreads();
    step_rows(head, state, tile, first, count);
    __syncthreads();
    head.finish(tile, first, count, args.eps);
  }
  if (segment.certain == segment.count) state.store(head);
  if (segment.count + 3 <= args.layout.window_rows) head.keep_window(0, segment.count);
}

// Grid: (Hv, segments). Behind gated_delta_net, for the segments whose window it has not kept.
KERNEL(gated_delta_window, kRowThreads)(DeltaArgs args) {
  await_predecessor();
  const SegmentView& segment = args.step.segments[blockIdx.y];
  if (segment.count + 3 <= args.layout.window_rows) return;
  const unsigned rows = args.layout.window_rows < segment.count ? args.layout.window_rows : segment.count;
  DeltaHead(args, segment, blockIdx.x).keep_window(segment.count - rows, rows);
}

}  // namespace qwen35::cuda
