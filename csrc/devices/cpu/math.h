// Transcendental functions with the same bits on every instruction set and platform: polynomials whose every step is
// one IEEE operation, which the vector kernels repeat lane by lane. Relative errors, measured over fp32 where the
// results are normal and exp(-x) is finite: exp 0.9e-7, sigmoid and silu 1.5e-7, softplus 2.2e-7.
//
// Everything here has internal linkage: a shared inline copy compiled for one instruction set could be the one that
// everybody gets.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>

namespace qwen35::cpu {

// x = n ln 2 + r with |r| <= ln 2 / 2; exp(x) = 2^n (1 + r + r^2 p(r)), p minimax of degree 4.
inline constexpr float kExpLowest = -104.0f;  // below: 0
inline constexpr float kExpHighest = 89.0f;   // above: infinity
inline constexpr float kLog2E = 0x1.715476p+0f;
inline constexpr float kLn2High = 0x1.62e400p-1f;  // 15 bits, so that n * kLn2High is exact
inline constexpr float kLn2Low = 0x1.7f7d1cp-20f;
inline constexpr float kRoundToInteger = 0x1.8p23f;  // adding it leaves the nearest integer in the low mantissa bits
constexpr float kExpPolynomial[5] = {0x1.fffffcp-2f, 0x1.555492p-3f, 0x1.5558f2p-5f, 0x1.123a20p-7f, 0x1.6a23d0p-10f};

// NaN stays NaN: both clamps keep their second operand when the comparison fails.
static inline float exp(float x) noexcept {
  x = kExpLowest > x ? kExpLowest : x;
  x = kExpHighest < x ? kExpHighest : x;
  const float shifted = std::fmaf(x, kLog2E, kRoundToInteger);
  const float n = shifted - kRoundToInteger;
  float r = std::fmaf(n, -kLn2High, x);
  r = std::fmaf(n, -kLn2Low, r);
  float p = std::fmaf(kExpPolynomial[4], r, kExpPolynomial[3]);
  p = std::fmaf(p, r, kExpPolynomial[2]);
  p = std::fmaf(p, r, kExpPolynomial[1]);
  p = std::fmaf(p, r, kExpPolynomial[0]);
  p = std::fmaf(p, r * r, r) + 1.0f;
  // Two factors, since 2^n itself may overflow or be subnormal where the result is not.
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(kRoundToInteger);
  const std::uint32_t half = static_cast<std::uint32_t>(static_cast<std::int32_t>(bits) >> 1);
  return p * std::bit_cast<float>((half + 127u) << 23) * std::bit_cast<float>((bits - half + 127u) << 23);
}

static inline float sigmoid(float x) noexcept { return 1.0f / (1.0f + exp(-x)); }

static inline float silu(float x) noexcept { return x / (1.0f + exp(-x)); }

constexpr float kAtanhPolynomial[5] = {0x1.555558p-2f, 0x1.9996b0p-3f, 0x1.2508b4p-3f, 0x1.b6e69ap-4f, 0x1.f17414p-4f};

// log(1 + exp(x)) = max(x, 0) + log1p(y), y = exp(-|x|); log1p(y) = 2 atanh(s), s = y / (2 + y) <= 1/3.
static inline float softplus(float x) noexcept {
  const float y = exp(x < 0.0f ? x : -x);
  const float s = y / (2.0f + y);
  const float t = s * s;
  float p = std::fmaf(kAtanhPolynomial[4], t, kAtanhPolynomial[3]);
  p = std::fmaf(p, t, kAtanhPolynomial[2]);
  p = std::fmaf(p, t, kAtanhPolynomial[1]);
  p = std::fmaf(p, t, kAtanhPolynomial[0]);
  const float log1p = 2.0f * std::fmaf(s * t, p, s);
  return x > 0.0f ? x + log1p : log1p;
}

}  // namespace qwen35::cpu
