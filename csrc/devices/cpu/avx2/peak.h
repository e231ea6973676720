// What simd/peak.h asks of 256-bit vectors but for the products themselves, which are those of peak.cpp of avx2/ and
// avxvnni/. They alone include this header.
#pragma once

#include "devices/cpu/avx2/isa.h"
#include "devices/cpu/simd/peak.h"

namespace qwen35::cpu {
namespace {

struct Avx2Peak {
  using V = __m256i;
  static constexpr std::size_t kBytes = 32;
  static constexpr std::size_t kProducts = 32;
  static V zero() noexcept { return _mm256_setzero_si256(); }
  static V value(char byte) noexcept { return _mm256_set1_epi8(byte); }
  static V add_words(V sum, const std::byte* data) noexcept {
    return _mm256_add_epi64(sum, _mm256_loadu_si256(reinterpret_cast<const V*>(data)));
  }
  static void prefetch(const std::byte* p) noexcept { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
  static std::uint64_t sum(V x) noexcept {
    alignas(32) std::uint64_t words[4];
    _mm256_store_si256(reinterpret_cast<V*>(words), x);
    return words[0] + words[1] + words[2] + words[3];
  }
#if !defined(_MSC_VER) || defined(__clang__)
  static void hide(V& x) noexcept { asm volatile("" : "+x"(x)); }
#endif
};

}  // namespace
}  // namespace qwen35::cpu
