#include "devices/cpu/simd/peak.h"
#include "devices/cpu/avx512/isa.h"

namespace qwen35::cpu {
namespace {

struct Avx512Peak {
  using V = __m512i;
  static constexpr std::size_t kBytes = 64;
  static constexpr std::size_t kProducts = 64;
  static V zero() noexcept { return _mm512_setzero_si512(); }
  static V value(char byte) noexcept { return _mm512_set1_epi8(byte); }
  static V add_words(V sum, const std::byte* data) noexcept { return _mm512_add_epi64(sum, _mm512_loadu_si512(data)); }
  static void prefetch(const std::byte* p) noexcept { _mm_prefetch(reinterpret_cast<const char*>(p), _MM_HINT_T0); }
  static std::uint64_t sum(V x) noexcept {  // modulo 2^64; _mm512_reduce_add_epi64 adds signed numbers
    alignas(64) std::uint64_t words[8];
    _mm512_store_si512(words, x);
    std::uint64_t total = 0;
    for (const std::uint64_t word : words) total += word;
    return total;
  }
#if !defined(_MSC_VER) || defined(__clang__)
  static void hide(V& x) noexcept { asm volatile("" : "+v"(x)); }
#endif
  static V step(V chain, V x, V w) noexcept { return _mm512_dpbusd_epi32(chain, x, w); }
};

}  // namespace

void add_avx512_peak(Table& table) noexcept { Peak<Avx512Peak>::add_to(table); }

}  // namespace qwen35::cpu
