// The integer operations of simd/matmul.h that every instruction set with 256-bit vectors has. How products are summed
// is its own: matmul.cpp of avx2/ and avxvnni/, which alone include this header.
#pragma once

#include "devices/cpu/avx2/isa.h"
#include "devices/cpu/simd/matmul.h"

namespace qwen35::cpu {
namespace {

struct Avx2Bytes : Avx2 {
  static constexpr bool kShiftsBytes = false;

  static I load_codes(const std::uint8_t* p) noexcept {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static I repeat(int byte) noexcept { return _mm256_set1_epi8(static_cast<char>(byte)); }
  template <std::size_t j>
  static I repeat_four(const std::int8_t* sixteen) noexcept {  // codes 4 j to 4 j + 3
    std::int32_t four;
    __builtin_memcpy(&four, sixteen + 4 * j, sizeof four);
    return _mm256_set1_epi32(four);
  }
  static I both(I a, I b) noexcept { return _mm256_and_si256(a, b); }
  static I merge(I a, I b, I mask) noexcept { return _mm256_or_si256(a, _mm256_and_si256(b, mask)); }
  template <int n>
  static I shift_left(I x) noexcept {
    return _mm256_slli_epi32(x, n);
  }
  template <int n>
  static I shift_right(I x) noexcept {
    return _mm256_srli_epi32(x, n);
  }
  static F to_float(I x) noexcept { return _mm256_cvtepi32_ps(x); }
  static F widen(const std::uint8_t* p) noexcept {
    return to_float(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F widen(const std::int8_t* p) noexcept {
    return to_float(_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
  }
  static F load_bf16(const std::uint16_t* p) noexcept {
    const I words = _mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
    return from_bits(_mm256_slli_epi32(words, 16));
  }
  static void prefetch(const char* p) noexcept { _mm_prefetch(p, _MM_HINT_T0); }
  static void prefetch_far(const char* p) noexcept { _mm_prefetch(p, _MM_HINT_T1); }

  static I magnitude(F x) noexcept { return _mm256_and_si256(bits(x), _mm256_set1_epi32(0x7fffffff)); }

  static std::int32_t total(I x) noexcept {
    const __m128i a = _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i b = _mm_add_epi32(a, _mm_shuffle_epi32(a, 0x4e));
    return _mm_cvtsi128_si32(_mm_add_epi32(b, _mm_shuffle_epi32(b, 0xb1)));
  }

  static std::uint32_t largest_of(I x) noexcept {
    const __m128i a = _mm_max_epu32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
    const __m128i b = _mm_max_epu32(a, _mm_shuffle_epi32(a, 0x4e));
    return static_cast<std::uint32_t>(_mm_cvtsi128_si32(_mm_max_epu32(b, _mm_shuffle_epi32(b, 0xb1))));
  }

  static void quantise_block(QuantisedBlock& out, const float* x) noexcept {
    F values[4];
    for (std::size_t i = 0; i < 4; ++i) values[i] = load(x + 8 * i);
    const I most = _mm256_max_epu32(_mm256_max_epu32(magnitude(values[0]), magnitude(values[1])),
                                    _mm256_max_epu32(magnitude(values[2]), magnitude(values[3])));
    const QuantisedScale scale = quantised_scale(largest_of(most));
    I codes[4];
    for (std::size_t i = 0; i < 4; ++i) {
      codes[i] = _mm256_cvtps_epi32(mul(values[i], set(scale.factor)));
      if (scale.factor == 0.0f) codes[i] = _mm256_setzero_si256();  // NaN times 0 is no code
    }
    const I words = _mm256_packs_epi16(_mm256_packs_epi32(codes[0], codes[1]), _mm256_packs_epi32(codes[2], codes[3]));
    // Packing works within 128-bit halves; put the eight groups of four back in order.
    const I order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
    _mm256_storeu_si256(reinterpret_cast<I*>(out.codes), _mm256_permutevar8x32_epi32(words, order));
    finish_block(out, scale.scale, total(_mm256_add_epi32(codes[0], codes[1])),
                 total(_mm256_add_epi32(codes[2], codes[3])));
  }
};

}  // namespace
}  // namespace qwen35::cpu
