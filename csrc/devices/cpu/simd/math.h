// The functions of devices/cpu/math.h, step for step, on the vectors of an Isa trait V; and what several kernels share.
#pragma once

#include <cstddef>
#include <cstdint>

#include "devices/cpu/math.h"

namespace qwen35::cpu {
namespace {

// Asks for n floats that are wanted soon.
template <class V>
void prefetch_row(const float* p, std::size_t n) noexcept {
  constexpr std::size_t kLineFloats = 16;
  for (std::size_t i = 0; i < n; i += kLineFloats) V::prefetch(p + i);
}

template <class V>
typename V::F exp_of(typename V::F x) noexcept {
  x = V::max(V::set(kExpLowest), x);
  x = V::min(V::set(kExpHighest), x);
  const auto shifted = V::fma(x, V::set(kLog2E), V::set(kRoundToInteger));
  const auto n = V::sub(shifted, V::set(kRoundToInteger));
  auto r = V::fma(n, V::set(-kLn2High), x);
  r = V::fma(n, V::set(-kLn2Low), r);
  auto p = V::fma(V::set(kExpPolynomial[4]), r, V::set(kExpPolynomial[3]));
  p = V::fma(p, r, V::set(kExpPolynomial[2]));
  p = V::fma(p, r, V::set(kExpPolynomial[1]));
  p = V::fma(p, r, V::set(kExpPolynomial[0]));
  p = V::add(V::fma(p, V::mul(r, r), r), V::set(1.0F));
  const auto whole = V::sub(V::bits(shifted), V::bits(V::set(kRoundToInteger)));
  const auto half = V::halve(whole);
  const auto bias = V::set(std::int32_t{127});
  const auto first = V::from_bits(V::to_exponent(V::add(half, bias)));
  const auto second = V::from_bits(V::to_exponent(V::add(V::sub(whole, half), bias)));
  return V::mul(V::mul(p, first), second);
}

template <class V>
typename V::F sigmoid_of(typename V::F x) noexcept {
  const auto one = V::set(1.0F);
  return V::div(one, V::add(one, exp_of<V>(V::sub(V::zero(), x))));
}

template <class V>
typename V::F silu_of(typename V::F x) noexcept {
  return V::div(x, V::add(V::set(1.0F), exp_of<V>(V::sub(V::zero(), x))));
}

template <class V>
typename V::F softplus_of(typename V::F x) noexcept {
  const auto zero = V::zero();
  const auto y = exp_of<V>(V::where_less(x, zero, x, V::sub(zero, x)));
  const auto s = V::div(y, V::add(V::set(2.0F), y));
  const auto t = V::mul(s, s);
  auto p = V::fma(V::set(kAtanhPolynomial[4]), t, V::set(kAtanhPolynomial[3]));
  p = V::fma(p, t, V::set(kAtanhPolynomial[2]));
  p = V::fma(p, t, V::set(kAtanhPolynomial[1]));
  p = V::fma(p, t, V::set(kAtanhPolynomial[0]));
  const auto log1p = V::mul(V::set(2.0F), V::fma(V::mul(s, t), p, s));
  return V::where_less(zero, x, V::add(x, log1p), log1p);
}

}  // namespace
}  // namespace qwen35::cpu
