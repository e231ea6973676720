// delta_gates and gated_delta_rule on the vectors of an Isa trait V: the operations of reference/gated_delta.cpp in the
// same order per column, so the same bits.
//
// The reference goes over the memory twice per token. Here the update of one token waits until the next one reads the
// memory: one load and one store per token, and the same arithmetic. A single token takes two passes over a tile that
// lies in the first-level cache by then (16 KiB at Dk = 128).
#pragma once

#include "devices/cpu/kernels.h"
#include "devices/cpu/simd/math.h"

namespace qwen35::cpu {
namespace {

template <class V>
struct GatedDelta {
  using F = typename V::F;
  static constexpr std::size_t kParts = kValueTile / V::kWidth;

  // A rank-1 update S <- decay S + k d^T that has not been written yet.
  struct Pending {
    const float* key;
    F decay;
    F d[kParts];
  };

  static F updated(F s, F key, F decay, F d) noexcept { return V::fma(key, d, V::mul(decay, s)); }

  // p = S^T key and m = S^T query, after writing the pending update if there is one. Everything that lives through the
  // loop is a local copy: the compiler cannot know that a store to the memory leaves `pending` alone.
  template <bool kHasPending>
  static void read(const DeltaArgs& args, const float* key, const float* query, const Pending& pending,
                   F (&p_out)[kParts], F (&m_out)[kParts]) noexcept {
    F p[kParts], m[kParts], d[kParts];
    for (std::size_t v = 0; v < kParts; ++v) {
      p[v] = m[v] = V::zero();
      d[v] = pending.d[v];
    }
    const F decay = pending.decay;
    const float* pending_key = pending.key;
    float* s = args.memory;
    for (std::size_t k = 0; k < args.width; ++k, s += kValueTile) {
      const F key_k = V::set(key[k]), query_k = V::set(query[k]);
      for (std::size_t v = 0; v < kParts; ++v) {
        F column = V::load(s + v * V::kWidth);
        if constexpr (kHasPending) {
          column = updated(column, V::set(pending_key[k]), decay, d[v]);
          V::store(s + v * V::kWidth, column);
        }
        p[v] = V::fma(key_k, column, p[v]);
        m[v] = V::fma(query_k, column, m[v]);
      }
    }
    for (std::size_t v = 0; v < kParts; ++v) {
      p_out[v] = p[v];
      m_out[v] = m[v];
    }
  }

  static void write(const DeltaArgs& args, const Pending& pending) noexcept {
    F d[kParts];
    for (std::size_t v = 0; v < kParts; ++v) d[v] = pending.d[v];
    const F decay = pending.decay;
    float* s = args.memory;
    for (std::size_t k = 0; k < args.width; ++k, s += kValueTile) {
      const F key_k = V::set(pending.key[k]);
      for (std::size_t v = 0; v < kParts; ++v) {
        V::store(s + v * V::kWidth, updated(V::load(s + v * V::kWidth), key_k, decay, d[v]));
      }
    }
  }

  static void gated_delta_rule(const DeltaArgs& args) noexcept {
    if (args.rows == 0) return;
    Pending pending{};
    for (std::size_t t = 0; t < args.rows; ++t) {
      const float* key = args.key + t * args.unit_stride;
      const float* query = args.query + t * args.unit_stride;
      F p[kParts], m[kParts];
      if (t == 0) {
        read<false>(args, key, query, pending, p, m);
      } else {
        read<true>(args, key, query, pending, p, m);
      }
      pending.key = key;
      pending.decay = V::set(args.decay[t * args.gate_stride]);
      const F beta = V::set(args.beta[t * args.gate_stride]);
      const F query_key = V::set(args.query_key[t * args.dot_stride]);
      for (std::size_t v = 0; v < kParts; ++v) {
        const F value = V::load(args.value + t * args.value_stride + v * V::kWidth);
        pending.d[v] = V::mul(beta, V::subtract_product(value, pending.decay, p[v]));
        const F out = V::fma(query_key, pending.d[v], V::mul(pending.decay, m[v]));
        V::store(args.out + t * args.out_stride + v * V::kWidth, out);
      }
    }
    write(args, pending);
  }

  static void delta_gates(float* decay, float* beta, const float* a, const float* b, const float* a_neg,
                          const float* dt_bias, std::size_t heads) noexcept {
    for (std::size_t j = 0; j < heads; j += V::kWidth) {
      const std::size_t n = heads - j < V::kWidth ? heads - j : V::kWidth;
      const auto load = [=](const float* x) { return n == V::kWidth ? V::load(x + j) : V::load_first(x + j, n); };
      const auto store = [=](float* x, F y) { n == V::kWidth ? V::store(x + j, y) : V::store_first(x + j, y, n); };
      store(decay, exp_of<V>(V::mul(load(a_neg), softplus_of<V>(V::add(load(a), load(dt_bias))))));
      store(beta, sigmoid_of<V>(load(b)));
    }
  }

  static void add_to(Table& table) noexcept {
    table.delta_gates = delta_gates;
    table.gated_delta_rule = gated_delta_rule;
  }
};

}  // namespace
}  // namespace qwen35::cpu
