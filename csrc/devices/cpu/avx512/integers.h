// The integer operations of simd/matmul.h on AVX-512 with VNNI. Only the matmul.cpp of avx512/ and amx/ include this.
#pragma once

#include "devices/cpu/avx512/isa.h"
#include "devices/cpu/simd/matmul.h"

namespace qwen35::cpu {
namespace {

// Products of 8-bit integers by VNNI: unsigned weights times signed activations, four to a lane. Signed weights are
// stored, or looked up, plus 128.
struct Avx512Integers : Avx512 {
  static constexpr std::size_t kRowVectors = 2;  // a whole panel: every broadcast of activations serves 32 rows
  static constexpr std::size_t kTileRows = 6;    // 12 integer and 12 float sums of the 32 registers
  static constexpr std::size_t kExactTileRows = 6;
  static constexpr bool kSignedBytes = false;
  static constexpr bool kShiftsBytes = false;

  template <std::size_t>
  struct Sum {
    I total;
    void start(I bias) noexcept { total = bias; }
    template <std::size_t, std::size_t>
    void add(I w, I x) noexcept {
      total = _mm512_dpbusd_epi32(total, w, x);
    }
    I finish(I) const noexcept { return total; }
  };

  static I load_codes(const std::uint8_t* p) noexcept { return _mm512_loadu_si512(p); }
  static I repeat(int byte) noexcept { return _mm512_set1_epi8(static_cast<char>(byte)); }
  template <std::size_t j>
  static I repeat_four(const std::int8_t* sixteen) noexcept {  // codes 4 j to 4 j + 3
    std::int32_t four;
    __builtin_memcpy(&four, sixteen + 4 * j, sizeof four);
    return _mm512_set1_epi32(four);
  }
  static I both(I a, I b) noexcept { return _mm512_and_si512(a, b); }
  static I merge(I a, I b, I mask) noexcept { return _mm512_ternarylogic_epi32(a, b, mask, 0xf8); }  // a | (b & mask)
  template <unsigned n>
  static I shift_left(I x) noexcept {
    return _mm512_slli_epi32(x, n);
  }
  template <unsigned n>
  static I shift_right(I x) noexcept {
    return _mm512_srli_epi32(x, n);
  }
  static I whole_bytes(I x) noexcept { return x; }
  static I look_up(const std::int8_t* table, I nibbles) noexcept {
    const __m128i above_zero =
        _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), _mm_set1_epi8(-128));
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(above_zero), nibbles);
  }
  static I levels(I nibbles) noexcept {
    const __m128i table = _mm_setr_epi8(1, 24, 45, 63, 79, 93, 106, 118, -127, -115, -103, -90, -75, -59, -39, -15);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(table), nibbles);
  }

  static F to_float(I x) noexcept { return _mm512_cvtepi32_ps(x); }
  static F widen(const std::uint8_t* p) noexcept {
    return to_float(_mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F widen(const std::int8_t* p) noexcept {
    return to_float(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))));
  }
  static F load_bf16(const std::uint16_t* p) noexcept {
    const I words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return from_bits(_mm512_slli_epi32(words, 16));
  }
  static void prefetch(const char* p) noexcept { _mm_prefetch(p, _MM_HINT_T0); }
  static void prefetch_far(const char* p) noexcept { _mm_prefetch(p, _MM_HINT_T1); }

  static void quantise_block(QuantisedBlock& out, const float* x) noexcept {
    const F low = load(x), high = load(x + 16);
    const I magnitude = _mm512_set1_epi32(0x7fffffff);
    const std::uint32_t largest = _mm512_reduce_max_epu32(
        _mm512_max_epu32(_mm512_and_si512(bits(low), magnitude), _mm512_and_si512(bits(high), magnitude)));
    const QuantisedScale scale = quantised_scale(largest);
    const F factor = set(scale.factor);
    I codes_low = _mm512_cvtps_epi32(mul(low, factor)), codes_high = _mm512_cvtps_epi32(mul(high, factor));
    if (scale.factor == 0.0f) codes_low = codes_high = _mm512_setzero_si512();  // NaN times 0 is no code
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.codes), _mm512_cvtepi32_epi8(codes_low));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out.codes + 16), _mm512_cvtepi32_epi8(codes_high));
    finish_block(out, scale.scale, _mm512_reduce_add_epi32(codes_low), _mm512_reduce_add_epi32(codes_high));
  }
};

}  // namespace
}  // namespace qwen35::cpu
