// AVX2 with FMA and F16C as the kernel templates see it. Only files of this folder include this header.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace qwen35::cpu {
namespace {

struct Avx2 {
  using F = __m256;   // kWidth floats
  using I = __m256i;  // kWidth 32-bit integers
  using D = __m256d;  // kWidth / 2 doubles
  static constexpr std::size_t kWidth = 8;
  static constexpr std::size_t kRegisters = 16;

  static F zero() noexcept { return _mm256_setzero_ps(); }
  static F set(float x) noexcept { return _mm256_set1_ps(x); }
  static F load(const float* p) noexcept { return _mm256_loadu_ps(p); }
  static void store(float* p, F x) noexcept { _mm256_storeu_ps(p, x); }
  // The first n < kWidth elements; the others read as 0 and are not written.
  static F load_first(const float* p, std::size_t n) noexcept { return _mm256_maskload_ps(p, mask(n)); }
  static void store_first(float* p, F x, std::size_t n) noexcept { _mm256_maskstore_ps(p, mask(n), x); }
  static F load(const std::uint16_t* half) noexcept {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(half)));
  }
  static void store(std::uint16_t* half, F x) noexcept {
    const __m128i quantised = _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(half), quantised);
  }

  static void prefetch(const float* p) noexcept { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }

  static F add(F a, F b) noexcept { return _mm256_add_ps(a, b); }
  static F sub(F a, F b) noexcept { return _mm256_sub_ps(a, b); }
  static F mul(F a, F b) noexcept { return _mm256_mul_ps(a, b); }
  static F div(F a, F b) noexcept { return _mm256_div_ps(a, b); }
  static F fma(F a, F b, F c) noexcept { return _mm256_fmadd_ps(a, b, c); }                // a b + c
  static F subtract_product(F c, F a, F b) noexcept { return _mm256_fnmadd_ps(a, b, c); }  // c - a b
  static F max(F a, F b) noexcept { return _mm256_max_ps(a, b); }                          // a > b ? a : b
  static F min(F a, F b) noexcept { return _mm256_min_ps(a, b); }                          // a < b ? a : b
  static F where_less(F a, F b, F then, F otherwise) noexcept {                            // a < b ? then : otherwise
    return _mm256_blendv_ps(otherwise, then, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
  }
  static F first_or(F x, std::size_t n, F rest) noexcept {  // x in the first n <= kWidth lanes
    return _mm256_blendv_ps(rest, x, _mm256_castsi256_ps(mask(n)));
  }

  static I bits(F x) noexcept { return _mm256_castps_si256(x); }
  static F from_bits(I x) noexcept { return _mm256_castsi256_ps(x); }
  static I set(std::int32_t x) noexcept { return _mm256_set1_epi32(x); }
  static I add(I a, I b) noexcept { return _mm256_add_epi32(a, b); }
  static I sub(I a, I b) noexcept { return _mm256_sub_epi32(a, b); }
  static I halve(I x) noexcept { return _mm256_srai_epi32(x, 1); }
  static I to_exponent(I x) noexcept { return _mm256_slli_epi32(x, 23); }

  static D zero_d() noexcept { return _mm256_setzero_pd(); }
  static D fma(D a, D b, D c) noexcept { return _mm256_fmadd_pd(a, b, c); }
  static D low(F x) noexcept { return _mm256_cvtps_pd(_mm256_castps256_ps128(x)); }
  static D high(F x) noexcept { return _mm256_cvtps_pd(_mm256_extractf128_ps(x, 1)); }

  // Sixteen lanes folded by halves: l + (l + 8), then 4, 2, 1.
  static float fold(const F (&x)[2]) noexcept {
    const __m256 a = _mm256_add_ps(x[0], x[1]);
    const __m128 b = _mm_add_ps(_mm256_castps256_ps128(a), _mm256_extractf128_ps(a, 1));
    const __m128 c = _mm_add_ps(b, _mm_movehl_ps(b, b));
    return _mm_cvtss_f32(_mm_add_ss(c, _mm_movehdup_ps(c)));
  }
  static double fold(const D (&x)[4]) noexcept {
    const __m256d a = _mm256_add_pd(_mm256_add_pd(x[0], x[2]), _mm256_add_pd(x[1], x[3]));
    const __m128d b = _mm_add_pd(_mm256_castpd256_pd128(a), _mm256_extractf128_pd(a, 1));
    return _mm_cvtsd_f64(_mm_add_sd(b, _mm_unpackhi_pd(b, b)));
  }
  static float largest(F x) noexcept {
    const __m128 a = _mm_max_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 b = _mm_max_ps(a, _mm_movehl_ps(a, a));
    return _mm_cvtss_f32(_mm_max_ss(b, _mm_movehdup_ps(b)));
  }
  static float first(F x) noexcept { return _mm256_cvtss_f32(x); }

 private:
  static I mask(std::size_t n) noexcept {
    const I lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<std::int32_t>(n)), lane);
  }
};

}  // namespace
}  // namespace qwen35::cpu
