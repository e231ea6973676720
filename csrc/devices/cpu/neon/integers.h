// The integer operations of simd/matmul.h on NEON with the dot product instructions.
#pragma once

#include "devices/cpu/neon/isa.h"
#include "devices/cpu/simd/matmul.h"

namespace qwen35::cpu {
namespace {

// sdot multiplies four bytes of every lane by one lane of another register, so that sixteen activations take one load
// and no broadcast.
struct NeonIntegers : Neon {
  static constexpr std::size_t kRowVectors = 2;     // float sums wait in memory
  static constexpr std::size_t kTileRows = 6;       // 12 sums and 12 vectors of activations of the 32 registers
  static constexpr std::size_t kExactTileRows = 2;  // 16 sums; 24 and what feeds them are too many
  static constexpr bool kSignedBytes = true;
  static constexpr bool kShiftsBytes = true;

  template <std::size_t>
  struct Sum {
    I total;
    void start(I bias) noexcept { total = bias; }
    template <std::size_t, std::size_t kFour>
    void add(I w, I x) noexcept {
      total = vdotq_laneq_s32(total, vreinterpretq_s8_s32(w), vreinterpretq_s8_s32(x), kFour);
    }
    I finish(I) const noexcept { return total; }
  };

  static I load_codes(const std::uint8_t* p) noexcept { return vreinterpretq_s32_u8(vld1q_u8(p)); }
  static I repeat(int byte) noexcept { return vreinterpretq_s32_u8(vdupq_n_u8(static_cast<std::uint8_t>(byte))); }
  template <std::size_t>
  static I repeat_four(const std::int8_t* sixteen) noexcept {  // add() picks the lane
    return vreinterpretq_s32_s8(vld1q_s8(sixteen));
  }
  static I both(I a, I b) noexcept { return vandq_s32(a, b); }
  static I merge(I a, I b, I mask) noexcept { return vbslq_s32(vreinterpretq_u32_s32(mask), b, a); }
  template <std::size_t n>
  static I shift_left(I x) noexcept {
    return vshlq_n_s32(x, n);
  }
  template <std::size_t n>
  static I shift_right(I x) noexcept {
    if constexpr (n == 0) return x;
    if constexpr (n != 0) return vreinterpretq_s32_u8(vshrq_n_u8(vreinterpretq_u8_s32(x), n));
  }
  static I whole_bytes(I x) noexcept { return veorq_s32(x, repeat(0x80)); }
  static I look_up(const std::int8_t* table, I nibbles) noexcept {
    return vreinterpretq_s32_s8(vqtbl1q_s8(vld1q_s8(table), vreinterpretq_u8_s32(nibbles)));
  }
  static I levels(I nibbles) noexcept {
    constexpr std::int8_t kLevels[] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
    return look_up(kLevels, nibbles);
  }

  static F to_float(I x) noexcept { return vcvtq_f32_s32(x); }
  static F widen(const std::uint8_t* p) noexcept {
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vreinterpret_u8_u32(four_bytes(p))))));
  }
  static F widen(const std::int8_t* p) noexcept {
    return to_float(vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u32(four_bytes(p))))));
  }
  static F load_bf16(const std::uint16_t* p) noexcept { return vreinterpretq_f32_u32(vshll_n_u16(vld1_u16(p), 16)); }
  static void prefetch(const char* p) noexcept { __builtin_prefetch(p); }
  static void prefetch_far(const char* p) noexcept { __builtin_prefetch(p, 0, 2); }

  static void quantise_block(QuantisedBlock& out, const float* x) noexcept {
    F values[8];
    uint32x4_t most = vdupq_n_u32(0);
    for (std::size_t i = 0; i < 8; ++i) {
      values[i] = load(x + 4 * i);
      most = vmaxq_u32(most, vandq_u32(vreinterpretq_u32_f32(values[i]), vdupq_n_u32(0x7fffffffU)));
    }
    const QuantisedScale scale = quantised_scale(vmaxvq_u32(most));
    I codes[8];
    for (std::size_t i = 0; i < 8; ++i) {
      codes[i] = vcvtnq_s32_f32(mul(values[i], set(scale.factor)));
      if (scale.factor == 0.0F) codes[i] = vdupq_n_s32(0);  // NaN times 0 is no code
    }
    std::int32_t sums[2];
    for (std::size_t half = 0; half < 2; ++half) {
      const I* c = codes + 4 * half;
      const int16x8_t first = vcombine_s16(vmovn_s32(c[0]), vmovn_s32(c[1]));
      const int16x8_t second = vcombine_s16(vmovn_s32(c[2]), vmovn_s32(c[3]));
      vst1q_s8(out.codes + 16 * half, vcombine_s8(vmovn_s16(first), vmovn_s16(second)));
      sums[half] = vaddvq_s32(vaddq_s32(vaddq_s32(c[0], c[1]), vaddq_s32(c[2], c[3])));
    }
    finish_block(out, scale.scale, sums[0], sums[1]);
  }

 private:
  static uint32x2_t four_bytes(const void* p) noexcept {
    std::uint32_t four;
    __builtin_memcpy(&four, p, sizeof four);
    return vdup_n_u32(four);
  }
};

}  // namespace
}  // namespace qwen35::cpu
