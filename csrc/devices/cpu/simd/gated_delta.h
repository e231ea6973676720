// delta_dots, delta_gates and gated_delta_rule on the vectors of an Isa trait V: the operations of
// reference/gated_delta.cpp in the same order per column, so the same bits.
//
// A tile of the state (16 KiB at Dk = 128) stays in the first-level cache. Of a whole chunk it is read once for all
// tokens that fit into registers and written once: 3.25 vector operations per token and vector of state, against 4
// token by token.
#pragma once

#include <cstring>

#include "devices/cpu/kernels.h"
#include "devices/cpu/simd/math.h"

namespace qwen35::cpu {
namespace {

template <class V>
struct GatedDelta {
  using F = typename V::F;
  static constexpr std::size_t kParts = kValueTile / V::kWidth;
  // Tokens per pass: two sums each in two vectors fill half the registers.
  static constexpr std::size_t kTogether = V::kRegisters / 8;
  static constexpr std::size_t kAhead = 1024;  // floats of the state, which single tokens stream from far away
  static_assert(kParts % 2 == 0 && kDeltaSteps % kTogether == 0);

  // S^T k and S^T q of a chunk's tokens.
  struct Products {
    float key[kDeltaSteps][kValueTile];
    float query[kDeltaSteps][kValueTile];
  };

  // Of the `kTokens` rows from `row`, in `kColumns` vectors at a time.
  template <std::size_t kTokens, std::size_t kColumns>
  static void read(const DeltaArgs& args, const float* state, std::size_t row, Products& products) noexcept {
    const std::size_t width = args.width;
    const float* key = args.key + row * width;
    const float* query = args.query + row * width;
    for (std::size_t first = 0; first < kValueTile; first += kColumns * V::kWidth) {
      F p[kTokens][kColumns], m[kTokens][kColumns];
      for (std::size_t i = 0; i < kTokens; ++i) {
        for (std::size_t v = 0; v < kColumns; ++v) p[i][v] = m[i][v] = V::zero();
      }
      const float* s = state + first;
      for (std::size_t k = 0; k < width; ++k, s += kValueTile) {
        if constexpr (kTokens == 1) prefetch_row<V>(s + kAhead, kValueTile);
        F column[kColumns];
        for (std::size_t v = 0; v < kColumns; ++v) column[v] = V::load(s + v * V::kWidth);
        for (std::size_t i = 0; i < kTokens; ++i) {
          const F key_k = V::set(key[i * width + k]), query_k = V::set(query[i * width + k]);
          for (std::size_t v = 0; v < kColumns; ++v) p[i][v] = V::fma(key_k, column[v], p[i][v]);
          for (std::size_t v = 0; v < kColumns; ++v) m[i][v] = V::fma(query_k, column[v], m[i][v]);
        }
      }
      for (std::size_t i = 0; i < kTokens; ++i) {
        for (std::size_t v = 0; v < kColumns; ++v) {
          V::store(products.key[row % kDeltaSteps + i] + first + v * V::kWidth, p[i][v]);
          V::store(products.query[row % kDeltaSteps + i] + first + v * V::kWidth, m[i][v]);
        }
      }
    }
  }

  // Of `count` <= kTokens rows, together.
  template <std::size_t kTokens>
  static void read_rest(const DeltaArgs& args, const float* state, std::size_t row, std::size_t count,
                        Products& products) noexcept {
    if constexpr (kTokens > 0) {
      if (count == kTokens) {
        read<kTokens, kTokens == 1 ? kParts : 2>(args, state, row, products);
      } else {
        read_rest<kTokens - 1>(args, state, row, count, products);
      }
    }
  }

  // Token i of the chunk that starts at row `chunk` and whose deltas are `deltas`.
  static void step(const DeltaArgs& args, float* deltas, std::size_t chunk, std::size_t i,
                   const Products& products) noexcept {
    const DeltaStep& step = args.step[chunk + i];
    const float* value = args.value + (chunk + i) * args.value_stride;
    float* out = args.out + (chunk + i) * args.value_stride;
    const F decay = V::set(step.decay), beta = V::set(step.beta);
    for (std::size_t v = 0; v < kValueTile; v += V::kWidth) {
      F error = V::subtract_product(V::load(value + v), decay, V::load(products.key[i] + v));
      F read = V::mul(decay, V::load(products.query[i] + v));
      for (std::size_t j = 0; j < i; ++j) {
        const F d = V::load(deltas + j * kValueTile + v);
        error = V::subtract_product(error, V::set(step.key[j]), d);
        read = V::fma(V::set(step.query[j]), d, read);
      }
      const F d = V::mul(beta, error);
      V::store(deltas + i * kValueTile + v, d);
      V::store(out + v, V::fma(V::set(step.query[i]), d, read));
    }
  }

  // to = S after the whole chunk that starts at row `chunk`, from = S before it; they may be the same.
  static void commit(const DeltaArgs& args, const float* from, float* to, const float* deltas,
                     std::size_t chunk) noexcept {
    const DeltaStep& last = args.step[chunk + kDeltaSteps - 1];
    const F decay = V::set(last.decay);
    const std::size_t width = args.width;
    const float* key = args.key + chunk * width;
    for (std::size_t first = 0; first < kValueTile; first += 2 * V::kWidth) {
      F d[kDeltaSteps][2];
      for (std::size_t j = 0; j < kDeltaSteps; ++j) {
        for (std::size_t v = 0; v < 2; ++v) {
          d[j][v] = V::mul(V::set(last.kept[j]), V::load(deltas + j * kValueTile + first + v * V::kWidth));
        }
      }
      const float* s = from + first;
      float* after = to + first;
      for (std::size_t k = 0; k < width; ++k, s += kValueTile, after += kValueTile) {
        F column[2];
        for (std::size_t v = 0; v < 2; ++v) column[v] = V::mul(V::load(s + v * V::kWidth), decay);
        for (std::size_t j = 0; j < kDeltaSteps; ++j) {
          const F key_k = V::set(key[j * width + k]);
          for (std::size_t v = 0; v < 2; ++v) column[v] = V::fma(key_k, d[j][v], column[v]);
        }
        for (std::size_t v = 0; v < 2; ++v) V::store(after + v * V::kWidth, column[v]);
      }
    }
  }

  // S takes up the whole chunks of rows [0, first); the deltas of what is left move to the front.
  static void take_up_accepted(const DeltaArgs& args) noexcept {
    const std::size_t rows = args.first / kDeltaSteps * kDeltaSteps;
    if (rows == 0) return;
    for (std::size_t chunk = 0; chunk < rows; chunk += kDeltaSteps) {
      commit(args, args.state, args.state, args.deltas + chunk * kValueTile, chunk);
    }
    std::memmove(args.deltas, args.deltas + rows * kValueTile, (args.first - rows) * kValueTile * sizeof(float));
  }

  static void gated_delta_rule(const DeltaArgs& args) noexcept {
    take_up_accepted(args);
    Products products;
    const float* state = args.state;
    float* deltas = args.deltas;
    for (std::size_t begin = args.first; begin < args.rows;) {
      const std::size_t chunk = begin / kDeltaSteps * kDeltaSteps;
      const std::size_t end = chunk + kDeltaSteps < args.rows ? chunk + kDeltaSteps : args.rows;
      std::size_t row = begin;
      for (; row + kTogether <= end; row += kTogether) read<kTogether, 2>(args, state, row, products);
      read_rest<kTogether - 1>(args, state, row, end - row, products);
      for (; begin < end; ++begin) step(args, deltas, chunk, begin - chunk, products);
      if (end % kDeltaSteps != 0) continue;
      if (end <= args.certain) {
        commit(args, args.state, args.state, deltas, chunk);
        continue;
      }
      if (end < args.rows) {
        commit(args, state, args.scratch, deltas, chunk);
        state = args.scratch;
      }
      deltas += kDeltaSteps * kValueTile;
    }
  }

  static void delta_dots(float* out, const float* x, const float* rows, std::size_t count, std::size_t width) noexcept {
    constexpr std::size_t kLanes = 16;
    for (std::size_t j = 0; j < count; ++j, rows += width) {
      F lane[kLanes / V::kWidth];
      for (F& l : lane) l = V::zero();
      std::size_t i = 0;
      for (; i + kLanes <= width; i += kLanes) {
        for (std::size_t part = 0; part < kLanes / V::kWidth; ++part) {
          lane[part] = V::fma(V::load(x + i + part * V::kWidth), V::load(rows + i + part * V::kWidth), lane[part]);
        }
      }
      for (std::size_t part = 0; i < width; ++part, i += V::kWidth) {
        const std::size_t n = width - i;
        lane[part] = n < V::kWidth ? V::fma(V::load_first(x + i, n), V::load_first(rows + i, n), lane[part])
                                   : V::fma(V::load(x + i), V::load(rows + i), lane[part]);
      }
      out[j] = V::fold(lane);
    }
  }

  static void delta_gates(float* a, float* b, float ssm_a, float dt_bias, std::size_t count) noexcept {
    for (std::size_t t = 0; t < count; t += V::kWidth) {
      const std::size_t n = count - t < V::kWidth ? count - t : V::kWidth;
      const auto load = [=](const float* x) { return n == V::kWidth ? V::load(x + t) : V::load_first(x + t, n); };
      const auto store = [=](float* x, F y) { n == V::kWidth ? V::store(x + t, y) : V::store_first(x + t, y, n); };
      store(a, exp_of<V>(V::mul(V::set(ssm_a), softplus_of<V>(V::add(load(a), V::set(dt_bias))))));
      store(b, sigmoid_of<V>(load(b)));
    }
  }

  static void add_to(Table& table) noexcept {
    table.delta_dots = delta_dots;
    table.delta_gates = delta_gates;
    table.gated_delta_rule = gated_delta_rule;
  }
};

}  // namespace
}  // namespace qwen35::cpu
