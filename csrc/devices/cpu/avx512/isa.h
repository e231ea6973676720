// AVX-512 (F, BW, VL, DQ, VNNI) as the kernel templates see it. Only files of this folder include this header.
#pragma once

// GCC before 13 sees its own undefined-value intrinsics as uninitialised variables (GCC bug 105593).
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#pragma GCC diagnostic ignored "-Wuninitialized"
#endif
#include <immintrin.h>
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

#include <cstddef>
#include <cstdint>

namespace qwen35::cpu {
namespace {

struct Avx512 {
  using F = __m512;   // kWidth floats
  using I = __m512i;  // kWidth 32-bit integers
  using D = __m512d;  // kWidth / 2 doubles
  static constexpr std::size_t kWidth = 16;
  static constexpr std::size_t kRegisters = 32;

  static F zero() noexcept { return _mm512_setzero_ps(); }
  static F set(float x) noexcept { return _mm512_set1_ps(x); }
  static F load(const float* p) noexcept { return _mm512_loadu_ps(p); }
  static void store(float* p, F x) noexcept { _mm512_storeu_ps(p, x); }
  // The first n < kWidth elements; the others read as 0 and are not written.
  static F load_first(const float* p, std::size_t n) noexcept { return _mm512_maskz_loadu_ps(mask(n), p); }
  static void store_first(float* p, F x, std::size_t n) noexcept { _mm512_mask_storeu_ps(p, mask(n), x); }
  static F load(const std::uint16_t* half) noexcept {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(half)));
  }
  static void store(std::uint16_t* half, F x) noexcept {
    const __m256i quantised = _mm512_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(half), quantised);
  }

  static void prefetch(const float* p) noexcept { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

  static F add(F a, F b) noexcept { return _mm512_add_ps(a, b); }
  static F sub(F a, F b) noexcept { return _mm512_sub_ps(a, b); }
  static F mul(F a, F b) noexcept { return _mm512_mul_ps(a, b); }
  static F div(F a, F b) noexcept { return _mm512_div_ps(a, b); }
  static F fma(F a, F b, F c) noexcept { return _mm512_fmadd_ps(a, b, c); }                // a b + c
  static F subtract_product(F c, F a, F b) noexcept { return _mm512_fnmadd_ps(a, b, c); }  // c - a b
  static F max(F a, F b) noexcept { return _mm512_max_ps(a, b); }                          // a > b ? a : b
  static F min(F a, F b) noexcept { return _mm512_min_ps(a, b); }                          // a < b ? a : b
  static F where_less(F a, F b, F then, F otherwise) noexcept {                            // a < b ? then : otherwise
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, then);
  }
  static F first_or(F x, std::size_t n, F rest) noexcept {  // x in the first n <= kWidth lanes
    return _mm512_mask_blend_ps(mask(n), rest, x);
  }

  static I bits(F x) noexcept { return _mm512_castps_si512(x); }
  static F from_bits(I x) noexcept { return _mm512_castsi512_ps(x); }
  static I set(std::int32_t x) noexcept { return _mm512_set1_epi32(x); }
  static I add(I a, I b) noexcept { return _mm512_add_epi32(a, b); }
  static I sub(I a, I b) noexcept { return _mm512_sub_epi32(a, b); }
  static I halve(I x) noexcept { return _mm512_srai_epi32(x, 1); }
  static I to_exponent(I x) noexcept { return _mm512_slli_epi32(x, 23); }

  static D zero_d() noexcept { return _mm512_setzero_pd(); }
  static D fma(D a, D b, D c) noexcept { return _mm512_fmadd_pd(a, b, c); }
  static D low(F x) noexcept { return _mm512_cvtps_pd(_mm512_castps512_ps256(x)); }
  static D high(F x) noexcept { return _mm512_cvtps_pd(_mm512_extractf32x8_ps(x, 1)); }

  // Sixteen lanes folded by halves: l + (l + 8), then 4, 2, 1.
  static float fold(const F (&x)[1]) noexcept {
    const __m256 a = _mm256_add_ps(_mm512_castps512_ps256(x[0]), _mm512_extractf32x8_ps(x[0], 1));
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static double fold(const D (&x)[2]) noexcept {
    const __m512d s = _mm512_add_pd(x[0], x[1]);
    const __m256d a = _mm256_add_pd(_mm512_castpd512_pd256(s), _mm512_extractf64x4_pd(s, 1));
    const __m128d b = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(b, _mm_unpackhi_pd(b, b)));
  }
  static float largest(F x) noexcept { return _mm512_reduce_max_ps(x); }
  static float first(F x) noexcept { return _mm512_cvtss_f32(x); }

 private:
  static __mmask16 mask(std::size_t n) noexcept { return static_cast<__mmask16>((1U << n) - 1U); }
};

}  // namespace
}  // namespace qwen35::cpu
