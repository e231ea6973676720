// NEON of 64-bit Arm as the kernel templates see it. Only files of neon/ and neon_i8mm/ include this header.
#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>

namespace qwen35::cpu {
namespace {

struct Neon {
  using F = float32x4_t;  // kWidth floats
  using I = int32x4_t;    // kWidth 32-bit integers
  using D = float64x2_t;  // kWidth / 2 doubles
  static constexpr std::size_t kWidth = 4;
  static constexpr std::size_t kRegisters = 32;

  static F zero() noexcept { return vdupq_n_f32(0.0F); }
  static F set(float x) noexcept { return vdupq_n_f32(x); }
  static F load(const float* p) noexcept { return vld1q_f32(p); }
  static void store(float* p, F x) noexcept { vst1q_f32(p, x); }
  // The first n < kWidth elements; the others read as 0 and are not written.
  static F load_first(const float* p, std::size_t n) noexcept {
    F x = zero();
    if (n > 0) x = vld1q_lane_f32(p, x, 0);
    if (n > 1) x = vld1q_lane_f32(p + 1, x, 1);
    if (n > 2) x = vld1q_lane_f32(p + 2, x, 2);
    return x;
  }
  static void store_first(float* p, F x, std::size_t n) noexcept {
    if (n > 0) vst1q_lane_f32(p, x, 0);
    if (n > 1) vst1q_lane_f32(p + 1, x, 1);
    if (n > 2) vst1q_lane_f32(p + 2, x, 2);
  }
  static F load(const std::uint16_t* half) noexcept { return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(half))); }
  static void store(std::uint16_t* half, F x) noexcept { vst1_u16(half, vreinterpret_u16_f16(vcvt_f16_f32(x))); }

  static void prefetch(const float* p) noexcept { __builtin_prefetch(p); }

  static F add(F a, F b) noexcept { return vaddq_f32(a, b); }
  static F sub(F a, F b) noexcept { return vsubq_f32(a, b); }
  static F mul(F a, F b) noexcept { return vmulq_f32(a, b); }
  static F div(F a, F b) noexcept { return vdivq_f32(a, b); }
  static F fma(F a, F b, F c) noexcept { return vfmaq_f32(c, a, b); }               // a b + c
  static F subtract_product(F c, F a, F b) noexcept { return vfmsq_f32(c, a, b); }  // c - a b
  // Comparisons, not vmaxq_f32 and vminq_f32, which return a NaN of either operand.
  static F max(F a, F b) noexcept { return vbslq_f32(vcgtq_f32(a, b), a, b); }  // a > b ? a : b
  static F min(F a, F b) noexcept { return vbslq_f32(vcltq_f32(a, b), a, b); }  // a < b ? a : b
  static F where_less(F a, F b, F then, F otherwise) noexcept {                 // a < b ? then : otherwise
    return vbslq_f32(vcltq_f32(a, b), then, otherwise);
  }
  static F first_or(F x, std::size_t n, F rest) noexcept {  // x in the first n <= kWidth lanes
    constexpr std::int32_t kLanes[] = {0, 1, 2, 3};
    return vbslq_f32(vcltq_s32(vld1q_s32(kLanes), vdupq_n_s32(static_cast<std::int32_t>(n))), x, rest);
  }

  static I bits(F x) noexcept { return vreinterpretq_s32_f32(x); }
  static F from_bits(I x) noexcept { return vreinterpretq_f32_s32(x); }
  static I set(std::int32_t x) noexcept { return vdupq_n_s32(x); }
  static I add(I a, I b) noexcept { return vaddq_s32(a, b); }
  static I sub(I a, I b) noexcept { return vsubq_s32(a, b); }
  static I halve(I x) noexcept { return vshrq_n_s32(x, 1); }
  static I to_exponent(I x) noexcept { return vshlq_n_s32(x, 23); }

  static D zero_d() noexcept { return vdupq_n_f64(0.0); }
  static D fma(D a, D b, D c) noexcept { return vfmaq_f64(c, a, b); }
  static D low(F x) noexcept { return vcvt_f64_f32(vget_low_f32(x)); }
  static D high(F x) noexcept { return vcvt_high_f64_f32(x); }

  // Sixteen lanes folded by halves: l + (l + 8), then 4, 2, 1.
  static float fold(const F (&x)[4]) noexcept {
    const F a = vaddq_f32(vaddq_f32(x[0], x[2]), vaddq_f32(x[1], x[3]));
    const float32x2_t b = vadd_f32(vget_low_f32(a), vget_high_f32(a));
    return vget_lane_f32(b, 0) + vget_lane_f32(b, 1);
  }
  static double fold(const D (&x)[8]) noexcept {
    const D a = vaddq_f64(vaddq_f64(x[0], x[4]), vaddq_f64(x[2], x[6]));
    const D b = vaddq_f64(vaddq_f64(x[1], x[5]), vaddq_f64(x[3], x[7]));
    const D c = vaddq_f64(a, b);
    return vgetq_lane_f64(c, 0) + vgetq_lane_f64(c, 1);
  }
  static float largest(F x) noexcept { return vmaxvq_f32(x); }  // of numbers
  static float first(F x) noexcept { return vgetq_lane_f32(x, 0); }
};

}  // namespace
}  // namespace qwen35::cpu
