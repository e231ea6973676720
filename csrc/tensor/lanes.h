// Eight fp32 numbers side by side: eight groups of weights searched at once, one per lane. Every operation is
// lane-wise and correctly rounded, so results do not depend on the instruction set.
#pragma once

#include <cstddef>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace qwen35 {

inline constexpr std::size_t kLanes = 8;

#if defined(__GNUC__) || defined(__clang__)

using Quad = float __attribute__((vector_size(16)));

inline Quad quad(float value) noexcept { return Quad{value, value, value, value}; }
inline Quad add(Quad a, Quad b) noexcept { return a + b; }
inline Quad subtract(Quad a, Quad b) noexcept { return a - b; }
inline Quad multiply(Quad a, Quad b) noexcept { return a * b; }
inline Quad divide(Quad a, Quad b) noexcept { return a / b; }
inline Quad if_less(Quad a, Quad b, Quad yes, Quad no) noexcept { return a < b ? yes : no; }
#if defined(__SSE2__)
inline Quad min(Quad a, Quad b) noexcept { return _mm_min_ps(a, b); }
inline Quad max(Quad a, Quad b) noexcept { return _mm_max_ps(a, b); }
inline Quad mask_less(Quad a, Quad b, Quad yes) noexcept { return _mm_and_ps(_mm_cmplt_ps(a, b), yes); }
#else
inline Quad min(Quad a, Quad b) noexcept { return a < b ? a : b; }
inline Quad max(Quad a, Quad b) noexcept { return a > b ? a : b; }
inline Quad mask_less(Quad a, Quad b, Quad yes) noexcept { return a < b ? yes : Quad{}; }
#endif

#else  // a compiler without vector types

struct Quad {
  float at[4];
};

template <class F>
inline Quad each(F f) noexcept {
  return {{f(0), f(1), f(2), f(3)}};
}
inline Quad quad(float value) noexcept { return {{value, value, value, value}}; }
inline Quad add(Quad a, Quad b) noexcept {
  return each([&](int i) { return a.at[i] + b.at[i]; });
}
inline Quad subtract(Quad a, Quad b) noexcept {
  return each([&](int i) { return a.at[i] - b.at[i]; });
}
inline Quad multiply(Quad a, Quad b) noexcept {
  return each([&](int i) { return a.at[i] * b.at[i]; });
}
inline Quad divide(Quad a, Quad b) noexcept {
  return each([&](int i) { return a.at[i] / b.at[i]; });
}
inline Quad if_less(Quad a, Quad b, Quad yes, Quad no) noexcept {
  return each([&](int i) { return a.at[i] < b.at[i] ? yes.at[i] : no.at[i]; });
}
inline Quad min(Quad a, Quad b) noexcept { return if_less(a, b, a, b); }
inline Quad max(Quad a, Quad b) noexcept { return if_less(b, a, a, b); }
inline Quad mask_less(Quad a, Quad b, Quad yes) noexcept { return if_less(a, b, yes, quad(0.0f)); }

#endif

// Passed by reference everywhere it crosses a function that might not be inlined.
struct Lanes {
  Quad low;
  Quad high;

  static Lanes load(const float* at) noexcept {
    Lanes r;
    std::memcpy(&r.low, at, sizeof r.low);
    std::memcpy(&r.high, at + 4, sizeof r.high);
    return r;
  }
  void store(float* at) const noexcept {
    std::memcpy(at, &low, sizeof low);
    std::memcpy(at + 4, &high, sizeof high);
  }
};

inline Lanes lanes(float value) noexcept { return {quad(value), quad(value)}; }
inline Lanes operator+(Lanes a, Lanes b) noexcept { return {add(a.low, b.low), add(a.high, b.high)}; }
inline Lanes operator-(Lanes a, Lanes b) noexcept { return {subtract(a.low, b.low), subtract(a.high, b.high)}; }
inline Lanes operator*(Lanes a, Lanes b) noexcept { return {multiply(a.low, b.low), multiply(a.high, b.high)}; }
inline Lanes operator/(Lanes a, Lanes b) noexcept { return {divide(a.low, b.low), divide(a.high, b.high)}; }
inline Lanes min(Lanes a, Lanes b) noexcept { return {min(a.low, b.low), min(a.high, b.high)}; }
inline Lanes max(Lanes a, Lanes b) noexcept { return {max(a.low, b.low), max(a.high, b.high)}; }
inline Lanes clamp(Lanes x, Lanes low, Lanes high) noexcept { return min(max(x, low), high); }

// a < b ? yes : no, lane by lane.
inline Lanes if_less(Lanes a, Lanes b, Lanes yes, Lanes no) noexcept {
  return {if_less(a.low, b.low, yes.low, no.low), if_less(a.high, b.high, yes.high, no.high)};
}
// a < b ? yes : 0.
inline Lanes mask_less(Lanes a, Lanes b, Lanes yes) noexcept {
  return {mask_less(a.low, b.low, yes.low), mask_less(a.high, b.high, yes.high)};
}

// To the nearest integer, ties to even, for |x| < 2^22: above 1.5 * 2^23 the spacing of fp32 is 1.
inline Lanes round(Lanes x) noexcept {
  const Lanes magic = lanes(12582912.0f);
  return (x + magic) - magic;
}

// a / b, and 0 where |b| is below 1e-30: small enough to leave real scales alone, large enough that a quotient times a
// level stays finite in fp32.
inline Lanes ratio(Lanes a, Lanes b) noexcept {
  const Lanes size = max(b, lanes(0.0f) - b);
  const Lanes quotient = a / if_less(lanes(1e-30f), size, b, lanes(1.0f));
  return mask_less(lanes(1e-30f), size, quotient);
}

inline float sum(Lanes x) noexcept {
  float at[kLanes];
  x.store(at);
  return ((at[0] + at[1]) + (at[2] + at[3])) + ((at[4] + at[5]) + (at[6] + at[7]));
}

}  // namespace qwen35
