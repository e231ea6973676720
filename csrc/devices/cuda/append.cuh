// norm_rope_append: queries and keys normed and turned, keys and values into the plain pages.
#pragma once

#include "devices/cuda/hadamard.cuh"
#include "devices/cuda/pages.cuh"

namespace qwen35::cuda {

struct Angle {
  double cosine;
  double sine;
};

// In double by multiples of pi / 2, then Taylor's series over [-pi / 4, pi / 4], whose remainders are below 1e-12.
DEVICE Angle turn(double angle) {
  const double quarters = rint(angle * 0.63661977236758134308);
  double r = fma(quarters, -1.57079632679489655800, angle);
  r = fma(quarters, -6.12323399573676603587e-17, r);
  const double z = r * r;
  double s = fma(z, 1.0 / 6227020800.0, -1.0 / 39916800.0);
  s = fma(s, z, 1.0 / 362880.0);
  s = fma(s, z, -1.0 / 5040.0);
  s = fma(s, z, 1.0 / 120.0);
  s = fma(s, z, -1.0 / 6.0);
  s = fma(s * z, r, r);
  double c = fma(z, 1.0 / 479001600.0, -1.0 / 3628800.0);
  c = fma(c, z, 1.0 / 40320.0);
  c = fma(c, z, -1.0 / 720.0);
  c = fma(c, z, 1.0 / 24.0);
  c = fma(c, z, -0.5);
  c = fma(c, z, 1.0);
  const auto quarter = static_cast<long long>(quarters) & 3;
  if (quarter == 0) return {c, s};
  if (quarter == 1) return {-s, c};
  if (quarter == 2) return {-c, -s};
  return {s, -c};
}

// Shared memory in which a block of threads prepares the heads of one row.
struct HeadRoom {
  float angles[kMostHeadWidth];  // cos, then sin, [2, pairs]
  float heads[kAppendWarps][kMostHeadWidth];
};

// The threads meet afterwards. Angles in double: at position 10^6 a float angle would be off by 0.03.
DEVICE void take_angles(HeadRoom& room, const NewHeads& args, const int* position) {
  const unsigned i = threadIdx.x;
  if (i < args.pairs) {
    const unsigned turns = i % 3 == 0 ? args.sections[0] : i % 3 == 1 ? args.sections[1] : args.sections[2];
    const unsigned axis = i < 3 * turns ? i % 3 : 0;
    const Angle angle = turn(static_cast<double>(position[axis]) * args.inv_freq[i]);
    room.angles[i] = static_cast<float>(angle.cosine * static_cast<double>(args.magnitude));
    room.angles[args.pairs + i] = static_cast<float>(angle.sine * static_cast<double>(args.magnitude));
  }
  __syncthreads();
}

DEVICE void load_head(Head& x, const float* from, unsigned width) {
  for (unsigned i = 0; i < kHeadParts; ++i) {
    const unsigned a = lane_id() + kWarp * i;
    x[i] = a < width ? from[a] : 0.0f;
  }
}

DEVICE void store_head(float* to, const Head& x, unsigned width) {
  for (unsigned i = 0; i < kHeadParts; ++i) {
    const unsigned a = lane_id() + kWarp * i;
    if (a < width) to[a] = x[i];
  }
}

// The sum of squares runs in double, where the square of a float is exact: the norm is rounded once.
DEVICE void norm_head(Head& x, const float* weight, unsigned width, float eps) {
  double squares = 0.0;
  for (unsigned i = 0; i < kHeadParts; ++i)
    squares = fma(static_cast<double>(x[i]), static_cast<double>(x[i]), squares);
  const double mean = lane_sum(squares) / static_cast<double>(width);
  const auto scale = static_cast<float>(1.0 / sqrt(mean + static_cast<double>(eps)));
  for (unsigned i = 0; i < kHeadParts; ++i) {
    const unsigned a = lane_id() + kWarp * i;
    if (a < width) x[i] = x[i] * scale * weight[a];
  }
}

// Through shared memory, since an element's partner lies with another lane.
DEVICE void turn_head(Head& x, HeadRoom& room, unsigned pairs) {
  const float *cosine = room.angles, *sine = cosine + pairs;
  float (&all)[kMostHeadWidth] = room.heads[warp_id()];
  for (unsigned i = 0; i < kHeadParts; ++i) all[lane_id() + kWarp * i] = x[i];
  __syncwarp();
  for (unsigned i = 0; i < kHeadParts; ++i) {
    const unsigned a = lane_id() + kWarp * i;
    if (a < pairs) {
      x[i] = fmaf(-all[a + pairs], sine[a], x[i] * cosine[a]);
    } else if (a < 2 * pairs) {
      x[i] = fmaf(x[i], cosine[a - pairs], all[a - pairs] * sine[a - pairs]);
    }
  }
  __syncwarp();  // the warp's next head comes here too
}

// A query or key: normed, turned, and rotated where pages are quantised.
DEVICE void prepare_head(Head& x, HeadRoom& room, const NewHeads& args, const float* norm, unsigned width,
                         unsigned format) {
  norm_head(x, norm, width, args.eps);
  turn_head(x, room, args.pairs);
  if (is_quantised(format)) hadamard(x, width);
}

// A row and one of its key/value heads, and where they go.
struct NewRow {
  unsigned row;
  unsigned kv_head;
  unsigned slot;  // of the page
  unsigned format;
  Byte* page;
};
DEVICE NewRow new_row(const StepView& step, const SegmentView& s, unsigned row, unsigned kv_head) {
  const unsigned position = s.position + row - s.first;
  return {row, kv_head, position % kPageKeys, s.format, step.pages[s.plain_pages + position / kPageKeys]};
}

DEVICE void put_in_page(Byte* head, const NewRow& at, const Head& x, unsigned width) {
  for (unsigned i = 0; i < kHeadParts; ++i) {
    const unsigned a = lane_id() + kWarp * i;
    if (a >= width) break;
    if (at.format == kKvF32) {
      reinterpret_cast<float*>(head)[at.slot * width + a] = x[i];
    } else {
      reinterpret_cast<unsigned short*>(head)[at.slot * width + a] = float_to_half(x[i]);
    }
  }
}

// By a warp, which has the key or value in x afterwards.
DEVICE void append_key(Head& x, HeadRoom& room, const NewHeads& args, const KvLayer& layer, const NewRow& at) {
  load_head(x, args.k.data + at.row * args.k.stride + at.kv_head * layer.width, layer.width);
  prepare_head(x, room, args, args.k_norm, layer.width, at.format);
  put_in_page(plain_keys(at.page, layer, at.format, at.kv_head), at, x, layer.width);
}
DEVICE void append_value(Head& x, const NewHeads& args, const KvLayer& layer, const NewRow& at) {
  load_head(x, args.v.data + at.row * args.v.stride + at.kv_head * layer.width, layer.width);
  if (is_quantised(at.format)) hadamard(x, layer.width);
  put_in_page(plain_values(at.page, layer, at.format, at.kv_head), at, x, layer.width);
}

// A warp takes a query head, or the key and the value of a key/value head. Grid: (rows, heads / kAppendWarps).
KERNEL(norm_rope_append, kAppendThreads)(AppendArgs args) {
  await_predecessor();
  SHARED(HeadRoom, room);
  const unsigned row = blockIdx.x, head = blockIdx.y * kAppendWarps + warp_id(), width = args.layer.width;
  const unsigned number = args.step.segment_of[row];
  if (number >= args.step.segment_count) return;
  const SegmentView& s = args.step.segments[number];
  if (row < s.first || row - s.first >= s.count) return;  // of no segment
  const NewHeads& heads = args.heads;
  take_angles(room, heads, args.step.positions + 3 * row);
  if (head >= args.query_heads + args.layer.kv_heads) return;
  Head x;
  if (head < args.query_heads) {
    float* query = args.q_gate.data + row * args.q_gate.stride + head * 2 * width;
    load_head(x, query, width);
    prepare_head(x, room, heads, heads.q_norm, width, s.format);
    store_head(query, x, width);
    return;
  }
  const NewRow at = new_row(args.step, s, row, head - args.query_heads);
  append_key(x, room, heads, args.layer, at);
  store_head(heads.k.data + row * heads.k.stride + at.kv_head * width, x, width);
  append_value(x, heads, args.layer, at);
  store_head(heads.v.data + row * heads.v.stride + at.kv_head * width, x, width);
}

}  // namespace qwen35::cuda
