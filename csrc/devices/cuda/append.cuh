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

// Angles in double: at position 10^6 a float angle would be off by 0.03. Grid: rows.
KERNEL(rope_table, kRowThreads)(RopeTableArgs args) {
  await_predecessor();
  const int* position = args.step.positions + 3 * blockIdx.x;
  float* cosine = args.table + blockIdx.x * 2ull * args.pairs;
  for (unsigned i = threadIdx.x; i < args.pairs; i += kRowThreads) {
    const unsigned turns = i % 3 == 0 ? args.sections[0] : i % 3 == 1 ? args.sections[1] : args.sections[2];
    const unsigned axis = i < 3 * turns ? i % 3 : 0;
    const Angle angle = turn(static_cast<double>(position[axis]) * args.inv_freq[i]);
    cosine[i] = static_cast<float>(angle.cosine * static_cast<double>(args.magnitude));
    cosine[args.pairs + i] = static_cast<float>(angle.sine * static_cast<double>(args.magnitude));
  }
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

// `room` of a warp: an element's partner lies with another lane.
DEVICE void turn_head(Head& x, float (&room)[kMostHeadWidth], const float* cosine, unsigned pairs) {
  const float* sine = cosine + pairs;
  for (unsigned i = 0; i < kHeadParts; ++i) room[lane_id() + kWarp * i] = x[i];
  __syncwarp();
  for (unsigned i = 0; i < kHeadParts; ++i) {
    const unsigned a = lane_id() + kWarp * i;
    if (a < pairs) {
      x[i] = fmaf(-room[a + pairs], sine[a], x[i] * cosine[a]);
    } else if (a < 2 * pairs) {
      x[i] = fmaf(x[i], cosine[a - pairs], room[a - pairs] * sine[a - pairs]);
    }
  }
}

DEVICE void put_in_page(Byte* head, unsigned slot, unsigned format, const Head& x, unsigned width) {
  for (unsigned i = 0; i < kHeadParts; ++i) {
    const unsigned a = lane_id() + kWarp * i;
    if (a >= width) break;
    if (format == kKvF32) {
      reinterpret_cast<float*>(head)[slot * width + a] = x[i];
    } else {
      reinterpret_cast<unsigned short*>(head)[slot * width + a] = float_to_half(x[i]);
    }
  }
}

// A warp takes a query head, or the key and the value of a key/value head. Grid: (rows, heads / kAppendWarps).
KERNEL(norm_rope_append, kAppendThreads)(AppendArgs args) {
  await_predecessor();
  SHARED(float[kAppendWarps][kMostHeadWidth], room);
  const unsigned row = blockIdx.x, head = blockIdx.y * kAppendWarps + warp_id(), width = args.layer.width;
  const unsigned number = args.step.segment_of[row];
  if (number >= args.step.segment_count || head >= args.heads + args.layer.kv_heads) return;
  const SegmentView& s = args.step.segments[number];
  if (row < s.first || row - s.first >= s.count) return;  // of no segment
  const float* angles = args.angles + row * 2ull * args.pairs;
  const bool is_query = head < args.heads;
  const unsigned kv_head = head - args.heads;
  float* at = is_query ? args.q_gate.data + row * args.q_gate.stride + head * 2 * width
                       : args.k.data + row * args.k.stride + kv_head * width;
  Head x;
  load_head(x, at, width);
  norm_head(x, is_query ? args.q_norm : args.k_norm, width, args.eps);
  turn_head(x, room[warp_id()], angles, args.pairs);
  if (is_quantised(s.format)) hadamard(x, width);
  store_head(at, x, width);
  if (is_query) return;
  const unsigned position = s.position + row - s.first, slot = position % kPageKeys;
  Byte* page = args.step.pages[s.plain_pages + position / kPageKeys];
  put_in_page(plain_keys(page, args.layer, s.format, kv_head), slot, s.format, x, width);
  at = args.v.data + row * args.v.stride + kv_head * width;
  load_head(x, at, width);
  if (is_quantised(s.format)) {
    hadamard(x, width);
    store_head(at, x, width);
  }
  put_in_page(plain_values(page, args.layer, s.format, kv_head), slot, s.format, x, width);
}

}  // namespace qwen35::cuda
