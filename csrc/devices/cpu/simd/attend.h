// hadamard, append, attend_split, softmax_step, scale_row, attend_combine and attend_finish on the vectors of an Isa
// trait V: per query the operations of reference/attend.cpp in the same order, so the same bits. reference/attend.cpp
// says how a page lies in memory.
//
// Up to four queries share every load of a key or value: with four heads or more per key/value head, decoding has them
// too. Each score is one chain over A, each output column one chain over the keys, so sharing changes no bit.
#pragma once

#include <cmath>

#include "devices/cpu/kernels.h"
#include "devices/cpu/simd/math.h"

namespace qwen35::cpu {
namespace {

template <class V, class Element>
struct Attend {
  using F = typename V::F;
  static constexpr std::size_t kParts = kKeyLanes / V::kWidth;  // vectors per sixteen lanes
  // Sixteens that one pass holds in registers for four queries.
  static constexpr std::size_t kSixteens = V::kRegisters / 16 * 2 / kParts;
  static constexpr std::size_t kShared = 4;
  static constexpr std::size_t kChains = 4;

  struct Tile {
    const Element* keys;    // [kKeyTile / 16][A][16]
    const Element* values;  // [kKeyTile][A]
    std::size_t first;      // position
  };

  static Tile tile_at(const AttendArgs& args, std::size_t position) noexcept {
    const auto* page = reinterpret_cast<const Element*>(args.pages[position / kPageSlots]);
    const std::size_t head = kPageSlots * args.width, slot = position % kPageSlots;
    return {page + args.kv_head * head + slot * args.width,
            page + (args.kv_heads + args.kv_head) * head + slot * args.width, position};
  }

  // score[q][key] = query . key for kCount queries and kGroups sixteens of keys from `group`.
  template <std::size_t kCount, std::size_t kGroups>
  static void score_keys(const AttendArgs& args, const Tile& tile, const float* const* queries, std::size_t group,
                         float (*score)[kKeyTile]) noexcept {
    F sum[kCount][kGroups * kParts];
    for (auto& row : sum) {
      for (auto& s : row) s = V::zero();
    }
    const std::size_t width = args.width;
    const Element* keys = tile.keys + group * width * kKeyLanes;
    const float* query[kCount];
    for (std::size_t q = 0; q < kCount; ++q) query[q] = queries[q];
    for (std::size_t a = 0; a < width; ++a, keys += kKeyLanes) {
      F key[kGroups * kParts];
      for (std::size_t g = 0; g < kGroups; ++g) {
        for (std::size_t p = 0; p < kParts; ++p) {
          key[g * kParts + p] = V::load(keys + g * width * kKeyLanes + p * V::kWidth);
        }
      }
      for (std::size_t q = 0; q < kCount; ++q) {
        const F x = V::set(query[q][a]);
        for (std::size_t i = 0; i < kGroups * kParts; ++i) sum[q][i] = V::fma(x, key[i], sum[q][i]);
      }
    }
    const F scale = V::set(args.scale);
    for (std::size_t q = 0; q < kCount; ++q) {
      for (std::size_t i = 0; i < kGroups * kParts; ++i) {
        V::store(score[q] + group * kKeyLanes + i * V::kWidth, V::mul(sum[q][i], scale));
      }
    }
  }

  // Scores of one query become probabilities; returns the factor that brings what was summed before to the new largest
  // score.
  static float exponentiate(float* score, std::size_t count, float& m, float& sum) noexcept {
    // Several chains, each a step of latency long; which of two equal scores is kept does not matter.
    F chain[kChains];
    for (auto& most : chain) most = V::set(m);
    std::size_t lanes = 0;
    for (; lanes + kChains * V::kWidth <= count; lanes += kChains * V::kWidth) {
      for (std::size_t i = 0; i < kChains; ++i) chain[i] = V::max(V::load(score + lanes + i * V::kWidth), chain[i]);
    }
    F most = V::max(V::max(chain[0], chain[1]), V::max(chain[2], chain[3]));
    for (; lanes < count; lanes += V::kWidth) {
      const std::size_t n = count - lanes < V::kWidth ? count - lanes : V::kWidth;
      most = V::max(V::first_or(V::load(score + lanes), n, most), most);
    }
    const float both = V::largest(most);
    F lane[kParts];
    for (auto& l : lane) l = V::zero();
    const F highest = V::set(both);
    for (std::size_t i = 0, part = 0; i < lanes; i += V::kWidth, part = (part + 1) % kParts) {
      const std::size_t n = count - i < V::kWidth ? count - i : V::kWidth;
      const F p = V::first_or(exp_of<V>(V::sub(V::load(score + i), highest)), n, V::zero());
      V::store(score + i, p);
      lane[part] = V::add(lane[part], p);
    }
    const F alpha = exp_of<V>(V::set(m - both));
    sum = V::first(V::fma(V::set(sum), alpha, V::set(V::fold(lane))));
    m = both;
    return V::first(alpha);
  }

  struct Keys {  // of a tile
    std::size_t first, end;
  };

  // values[q] = alpha[q] values[q] + sum over the keys of p[q][j] v_j, for kColumns sixteens of columns from a.
  template <std::size_t kCount, std::size_t kColumns>
  static void add_columns(const AttendArgs& args, const Tile& tile, const float (*p)[kKeyTile], const float* alpha,
                          Keys keys, float* values, std::size_t a) noexcept {
    F sum[kCount][kColumns * kParts];
    for (std::size_t q = 0; q < kCount; ++q) {
      const F f = V::set(alpha[q]);
      for (std::size_t i = 0; i < kColumns * kParts; ++i) {
        sum[q][i] = V::mul(V::load(values + q * args.width + a + i * V::kWidth), f);
      }
    }
    const Element* value = tile.values + keys.first * args.width + a;
    for (std::size_t j = keys.first; j < keys.end; ++j, value += args.width) {
      F v[kColumns * kParts];
      for (std::size_t i = 0; i < kColumns * kParts; ++i) v[i] = V::load(value + i * V::kWidth);
      for (std::size_t q = 0; q < kCount; ++q) {
        const F s = V::set(p[q][j]);
        for (std::size_t i = 0; i < kColumns * kParts; ++i) sum[q][i] = V::fma(s, v[i], sum[q][i]);
      }
    }
    for (std::size_t q = 0; q < kCount; ++q) {
      for (std::size_t i = 0; i < kColumns * kParts; ++i) {
        V::store(values + q * args.width + a + i * V::kWidth, sum[q][i]);
      }
    }
  }

  template <std::size_t kCount>
  static void add_values(const AttendArgs& args, const Tile& tile, const float (*p)[kKeyTile], const float* alpha,
                         Keys keys, float* values) noexcept {
    constexpr std::size_t kStep = kSixteens * kKeyLanes;
    std::size_t a = 0;
    for (; a + kStep <= args.width; a += kStep) {
      add_columns<kCount, kSixteens>(args, tile, p, alpha, keys, values, a);
    }
    for (; a < args.width; a += kKeyLanes) add_columns<kCount, 1>(args, tile, p, alpha, keys, values, a);
  }

  // Queries [i, i + kCount) through one tile.
  template <std::size_t kCount>
  static void step(const AttendArgs& args, const Tile& tile, std::size_t i,
                   const std::size_t (&seen)[kCount]) noexcept {
    alignas(64) float score[kCount][kKeyTile];
    float alpha[kCount] = {};
    std::size_t most = seen[0], least = seen[0];
    for (std::size_t q = 1; q < kCount; ++q) {
      most = seen[q] > most ? seen[q] : most;
      least = seen[q] < least ? seen[q] : least;
    }
    for (std::size_t group = 0; group * kKeyLanes < most; group += kSixteens) {
      score_keys<kCount, kSixteens>(args, tile, args.queries + i, group, score);
    }
    for (std::size_t q = 0; q < kCount; ++q) {
      if (seen[q] > 0) alpha[q] = exponentiate(score[q], seen[q], args.m[i + q], args.sum[i + q]);
    }
    float* values = args.values + i * args.width;
    if (least > 0) add_values<kCount>(args, tile, score, alpha, {0, least}, values);
    // Queries of different rows in the tile of their own positions: a key that one may not see is not even
    // multiplied by zero.
    constexpr float kOne = 1.0F;
    for (std::size_t q = 0; q < kCount; ++q) {
      if (seen[q] == least) continue;
      const float* scale = least > 0 ? &kOne : alpha + q;
      add_values<1>(args, tile, score + q, scale, {least, seen[q]}, values + q * args.width);
    }
  }

  template <std::size_t kCount>
  static void step_from(const AttendArgs& args, const Tile& tile, std::size_t i) noexcept {
    std::size_t seen[kCount];
    std::size_t total = 0;
    for (std::size_t q = 0; q < kCount; ++q) {
      const std::size_t end = args.limits[i + q] < args.last ? args.limits[i + q] : args.last;
      const std::size_t keys = end > tile.first ? end - tile.first : 0;
      seen[q] = keys < kKeyTile ? keys : kKeyTile;
      total += seen[q];
    }
    if (total > 0) step<kCount>(args, tile, i, seen);
  }

  static void attend_split(const AttendArgs& args) noexcept {
    std::size_t end = 0;
    for (std::size_t i = 0; i < args.count; ++i) {
      const std::size_t own = args.limits[i] < args.last ? args.limits[i] : args.last;
      if (own <= args.first) continue;
      end = own > end ? own : end;
      args.m[i] = -3.402823466e+38F;  // the lowest finite number, as in the reference
      args.sum[i] = 0.0F;
      for (std::size_t a = 0; a < args.width; ++a) args.values[i * args.width + a] = 0.0F;
    }
    for (std::size_t position = args.first; position < end; position += kKeyTile) {
      const Tile tile = tile_at(args, position);
      std::size_t i = 0;
      for (; i + kShared <= args.count; i += kShared) step_from<kShared>(args, tile, i);
      switch (args.count - i) {
        case 3:
          step_from<3>(args, tile, i);
          break;
        case 2:
          step_from<2>(args, tile, i);
          break;
        case 1:
          step_from<1>(args, tile, i);
          break;
        default:
          break;
      }
    }
  }

  static void append(std::byte* page, std::size_t slot, std::size_t kv_head, std::size_t kv_heads, std::size_t width,
                     const float* key, const float* value) noexcept {
    auto* elements = reinterpret_cast<Element*>(page);
    Element* keys = elements + (kv_head * kPageSlots + slot / kKeyLanes * kKeyLanes) * width + slot % kKeyLanes;
    Element* values = elements + ((kv_heads + kv_head) * kPageSlots + slot) * width;
    for (std::size_t a = 0; a < width; a += V::kWidth) {
      Element row[V::kWidth];
      V::store(row, V::load(key + a));
      for (std::size_t i = 0; i < V::kWidth; ++i) keys[(a + i) * kKeyLanes] = row[i];
      V::store(values + a, V::load(value + a));
    }
  }

  // Butterflies over whole vectors, group of rows by group of rows; those within a vector element by element.
  static void hadamard(float* x, std::size_t width) noexcept {
    const std::size_t order = width & (~width + 1);
    for (std::size_t half = 1; half < order; half *= 2) {
      for (std::size_t i = 0; i < width; i += 2 * half) {
        if (half < V::kWidth) {
          for (std::size_t j = i; j < i + half; ++j) {
            const float a = x[j], b = x[j + half];
            x[j] = a + b;
            x[j + half] = a - b;
          }
          continue;
        }
        for (std::size_t j = i; j < i + half; j += V::kWidth) {
          const F a = V::load(x + j), b = V::load(x + j + half);
          V::store(x + j, V::add(a, b));
          V::store(x + j + half, V::sub(a, b));
        }
      }
    }
    const F scale = V::set(static_cast<float>(1.0 / std::sqrt(static_cast<double>(order))));
    for (std::size_t a = 0; a < width; a += V::kWidth) V::store(x + a, V::mul(V::load(x + a), scale));
  }

  static float softmax_step(float* score, std::size_t count, float scale, float* m, float* sum) noexcept {
    const F factor = V::set(scale);
    for (std::size_t i = 0; i < count; i += V::kWidth) V::store(score + i, V::mul(V::load(score + i), factor));
    return exponentiate(score, count, *m, *sum);
  }

  static void scale_row(float* x, float factor, std::size_t width) noexcept {
    const F f = V::set(factor);
    for (std::size_t a = 0; a < width; a += V::kWidth) V::store(x + a, V::mul(V::load(x + a), f));
  }

  static void attend_combine(float* m, float* sum, float* values, float later_m, float later_sum,
                             const float* later_values, std::size_t width) noexcept {
    const float both = later_m > *m ? later_m : *m;
    const F alpha = exp_of<V>(V::set(*m - both)), later_alpha = exp_of<V>(V::set(later_m - both));
    for (std::size_t a = 0; a < width; a += V::kWidth) {
      V::store(values + a, V::fma(V::load(later_values + a), later_alpha, V::mul(V::load(values + a), alpha)));
    }
    *sum = V::first(V::fma(V::set(later_sum), later_alpha, V::mul(V::set(*sum), alpha)));
    *m = both;
  }

  static void attend_finish(float* out, const float* values, float sum, const float* gate, std::size_t width) noexcept {
    const F scale = V::div(V::set(1.0F), V::set(sum));
    for (std::size_t a = 0; a < width; a += V::kWidth) {
      V::store(out + a, V::mul(V::mul(V::load(values + a), scale), sigmoid_of<V>(V::load(gate + a))));
    }
  }
};

template <class V>
void add_attend(Table& table) noexcept {
  using Full = Attend<V, float>;
  using Half = Attend<V, std::uint16_t>;
  table.hadamard = Full::hadamard;
  table.softmax_step = Full::softmax_step;
  table.scale_row = Full::scale_row;
  table.append[kKvF32] = Full::append;
  table.append[kKvF16] = Half::append;
  table.attend_split[kKvF32] = Full::attend_split;
  table.attend_split[kKvF16] = Half::attend_split;
  table.attend_combine = Full::attend_combine;
  table.attend_finish = Full::attend_finish;
}

}  // namespace
}  // namespace qwen35::cpu
