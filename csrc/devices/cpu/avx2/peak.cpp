// read_sum, and multiply_int8 as the products of this folder have it: 8-bit pairs to 16 bits (maddubs), those to 32
// (madd), and an addition.
#include "devices/cpu/avx2/isa.h"
#include "devices/cpu/kernels.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kSums = 8;
constexpr std::size_t kChains = 8;  // and two constants, a product and what it multiplies: in sixteen registers

// x, of which the compiler may no longer assume to know that it never changes: else one product would do for all. Costs
// no instruction; compilers without this way of saying so are given the chain's own sum to multiply.
__m256i unknown(__m256i& x, [[maybe_unused]] __m256i chain) noexcept {
#if defined(_MSC_VER) && !defined(__clang__)
  return chain;
#else
  asm volatile("" : "+x"(x));
  return x;
#endif
}

std::uint64_t read_sum(const std::byte* data, std::size_t bytes) noexcept {
  __m256i sums[kSums];
  for (__m256i& sum : sums) sum = _mm256_setzero_si256();
  const auto* vectors = reinterpret_cast<const __m256i*>(data);
  for (std::size_t at = 0; at < bytes / sizeof(__m256i); at += kSums) {
    for (std::size_t i = 0; i < kSums; ++i) {
      sums[i] = _mm256_add_epi64(sums[i], _mm256_loadu_si256(vectors + at + i));
    }
  }
  for (std::size_t i = 1; i < kSums; ++i) sums[0] = _mm256_add_epi64(sums[0], sums[i]);
  alignas(32) std::uint64_t words[4];
  _mm256_store_si256(reinterpret_cast<__m256i*>(words), sums[0]);
  return words[0] + words[1] + words[2] + words[3];
}

std::uint64_t multiply_int8(std::size_t rounds, std::int32_t* sum) noexcept {
  const __m256i weights = _mm256_set1_epi8(3);
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i x = _mm256_set1_epi8(5);
  // Variables, not an array: GCC keeps an array's twin in memory.
  __m256i a = _mm256_setzero_si256();
  __m256i b = a, c = a, d = a, e = a, f = a, g = a, h = a;
  const auto step = [&](__m256i& chain) noexcept {
    const __m256i pairs = _mm256_maddubs_epi16(unknown(x, chain), weights);
    chain = _mm256_add_epi32(chain, _mm256_madd_epi16(pairs, ones));
  };
  for (std::size_t round = 0; round < rounds; ++round) {
    step(a);
    step(b);
    step(c);
    step(d);
    step(e);
    step(f);
    step(g);
    step(h);
  }
  const __m256i others[kChains - 1] = {b, c, d, e, f, g, h};
  for (const __m256i chain : others) a = _mm256_add_epi32(a, chain);
  *sum += _mm256_extract_epi32(a, 0);
  return 2 * std::uint64_t{kChains * sizeof(__m256i)} * rounds;
}

}  // namespace

void add_avx2_peak(Table& table) noexcept {
  table.read_sum = read_sum;
  table.multiply_int8 = multiply_int8;
}

}  // namespace qwen35::cpu
