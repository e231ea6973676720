// rms_norm, gated_rms_norm, l2_norm and norm_rope on the vectors of an Isa trait V: the operations of
// reference/norm.cpp in the same order, so the same bits.
#pragma once

#include <cmath>

#include "devices/cpu/kernels.h"
#include "devices/cpu/simd/math.h"

namespace qwen35::cpu {
namespace {

// f(i) for whole vectors of [0, n), then f_part(i, rest) once for what is left.
template <class V, class Whole, class Part>
void over(std::size_t n, Whole&& whole, Part&& part) noexcept {
  std::size_t i = 0;
  for (; i + V::kWidth <= n; i += V::kWidth) whole(i);
  if (i < n) part(i, n - i);
}

template <class V>
struct Norm {
  using F = typename V::F;
  static constexpr std::size_t kParts = 16 / V::kWidth;

  static double dot_product(const float* x, const float* y, std::size_t n) noexcept {
    typename V::D lane[2 * kParts];
    for (auto& l : lane) l = V::zero_d();
    const auto add = [&](std::size_t part, F a, F b) {
      lane[2 * part] = V::fma(V::low(a), V::low(b), lane[2 * part]);
      lane[2 * part + 1] = V::fma(V::high(a), V::high(b), lane[2 * part + 1]);
    };
    std::size_t i = 0;
    for (; i + 16 <= n; i += 16) {
      for (std::size_t part = 0; part < kParts; ++part) {
        add(part, V::load(x + i + part * V::kWidth), V::load(y + i + part * V::kWidth));
      }
    }
    for (std::size_t part = 0; i < n; ++part, i += V::kWidth) {
      const std::size_t rest = n - i < V::kWidth ? n - i : V::kWidth;
      const bool whole = rest == V::kWidth;
      add(part, whole ? V::load(x + i) : V::load_first(x + i, rest),
          whole ? V::load(y + i) : V::load_first(y + i, rest));
    }
    return V::fold(lane);
  }

  static float rms_scale(const float* x, std::size_t n, float eps) noexcept {
    const double mean = dot_product(x, x, n) / static_cast<double>(n);
    return static_cast<float>(1.0 / std::sqrt(mean + static_cast<double>(eps)));
  }

  static void rms_norm(float* out, const float* x, const float* weight, std::size_t cols, float eps) noexcept {
    const F scale = V::set(rms_scale(x, cols, eps));
    over<V>(
        cols, [&](std::size_t i) { V::store(out + i, V::mul(V::mul(V::load(x + i), scale), V::load(weight + i))); },
        [&](std::size_t i, std::size_t n) {
          const F y = V::mul(V::mul(V::load_first(x + i, n), scale), V::load_first(weight + i, n));
          V::store_first(out + i, y, n);
        });
  }

  static void gated_rms_norm(const GatedNormArgs& args) noexcept {
    constexpr std::size_t kAhead = 4;  // rows: those of a batch lie pages apart, and nothing else fetches them ahead
    const float* weight = args.weight;
    for (std::size_t t = 0; t < args.rows; ++t) {
      float* out = args.out + t * args.stride;
      const float* x = args.x + t * args.width;
      const float* z = args.z + t * args.gate_stride;
      if (t + kAhead < args.rows) prefetch_row<V>(z + kAhead * args.gate_stride, args.width);
      const F scale = V::set(rms_scale(x, args.width, args.eps));
      const auto gated = [&](F a, F w, F gate) { return V::mul(V::mul(V::mul(a, scale), w), silu_of<V>(gate)); };
      over<V>(
          args.width,
          [&](std::size_t i) { V::store(out + i, gated(V::load(x + i), V::load(weight + i), V::load(z + i))); },
          [&](std::size_t i, std::size_t n) {
            const F y = gated(V::load_first(x + i, n), V::load_first(weight + i, n), V::load_first(z + i, n));
            V::store_first(out + i, y, n);
          });
    }
  }

  static void l2_norm(float* out, const float* x, std::size_t width, float scale, float eps) noexcept {
    const double length = std::sqrt(dot_product(x, x, width) + static_cast<double>(eps));
    const F factor = V::set(static_cast<float>(static_cast<double>(scale) / length));
    over<V>(
        width, [&](std::size_t i) { V::store(out + i, V::mul(V::load(x + i), factor)); },
        [&](std::size_t i, std::size_t n) { V::store_first(out + i, V::mul(V::load_first(x + i, n), factor), n); });
  }

  static void norm_rope(float* x, const float* weight, std::size_t width, float eps, const float* cosine,
                        const float* sine, std::size_t pairs) noexcept {
    rms_norm(x, x, weight, width, eps);
    const auto turn = [](F a, F b, F c, F s, F& low, F& high) {
      low = V::subtract_product(V::mul(a, c), b, s);
      high = V::fma(b, c, V::mul(a, s));
    };
    F low, high;
    over<V>(
        pairs,
        [&](std::size_t i) {
          turn(V::load(x + i), V::load(x + pairs + i), V::load(cosine + i), V::load(sine + i), low, high);
          V::store(x + i, low);
          V::store(x + pairs + i, high);
        },
        [&](std::size_t i, std::size_t n) {
          turn(V::load_first(x + i, n), V::load_first(x + pairs + i, n), V::load_first(cosine + i, n),
               V::load_first(sine + i, n), low, high);
          V::store_first(x + i, low, n);
          V::store_first(x + pairs + i, high, n);
        });
  }

  static void add_to(Table& table) noexcept {
    table.rms_norm = rms_norm;
    table.gated_rms_norm = gated_rms_norm;
    table.l2_norm = l2_norm;
    table.norm_rope = norm_rope;
  }
};

}  // namespace
}  // namespace qwen35::cpu
