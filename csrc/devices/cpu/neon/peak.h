// What simd/peak.h asks of NEON but for the products themselves, which are those of peak.cpp of neon/ and neon_i8mm/.
// They alone include this header.
#pragma once

#include "devices/cpu/neon/isa.h"
#include "devices/cpu/simd/peak.h"

namespace qwen35::cpu {
namespace {

struct NeonPeak {
  using V = int32x4_t;
  static constexpr std::size_t kBytes = 16;
  static V zero() noexcept { return vdupq_n_s32(0); }
  static V value(std::int8_t byte) noexcept { return vreinterpretq_s32_s8(vdupq_n_s8(byte)); }
  static V add_words(V sum, const std::byte* data) noexcept {
    const uint64x2_t words = vreinterpretq_u64_u8(vld1q_u8(reinterpret_cast<const std::uint8_t*>(data)));
    return vreinterpretq_s32_u64(vaddq_u64(vreinterpretq_u64_s32(sum), words));
  }
  static void prefetch(const std::byte* p) noexcept { __builtin_prefetch(p); }
  static std::uint64_t sum(V x) noexcept { return vaddvq_u64(vreinterpretq_u64_s32(x)); }
#if !defined(_MSC_VER) || defined(__clang__)
  static void hide(V& x) noexcept { asm volatile("" : "+w"(x)); }
#endif
};

}  // namespace
}  // namespace qwen35::cpu
