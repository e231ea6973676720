// read_sum, and multiply_int8 as the products of this folder have it: four 8-bit products and their sum in one
// instruction (vpdpbusd).
#include "devices/cpu/avx512/isa.h"
#include "devices/cpu/kernels.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kSums = 8;
constexpr std::size_t kChains = 12;  // five cycles at two a cycle want ten under way

// x, of which the compiler may no longer assume to know that it never changes: else one product would do for all. Costs
// no instruction; compilers without this way of saying so are given the chain's own sum to multiply.
__m512i unknown(__m512i& x, [[maybe_unused]] __m512i chain) noexcept {
#if defined(_MSC_VER) && !defined(__clang__)
  return chain;
#else
  asm volatile("" : "+v"(x));
  return x;
#endif
}

std::uint64_t read_sum(const std::byte* data, std::size_t bytes) noexcept {
  __m512i sums[kSums];
  for (__m512i& sum : sums) sum = _mm512_setzero_si512();
  for (std::size_t at = 0; at < bytes; at += sizeof sums) {
    for (std::size_t i = 0; i < kSums; ++i) {
      sums[i] = _mm512_add_epi64(sums[i], _mm512_loadu_si512(data + at + i * sizeof(__m512i)));
    }
  }
  for (std::size_t i = 1; i < kSums; ++i) sums[0] = _mm512_add_epi64(sums[0], sums[i]);
  return static_cast<std::uint64_t>(_mm512_reduce_add_epi64(sums[0]));
}

std::uint64_t multiply_int8(std::size_t rounds, std::int32_t* sum) noexcept {
  const __m512i weights = _mm512_set1_epi8(3);
  __m512i x = _mm512_set1_epi8(5);
  // Variables, not an array: GCC keeps an array's twin in memory.
  __m512i a = _mm512_setzero_si512();
  __m512i b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
  const auto step = [&](__m512i& chain) noexcept { chain = _mm512_dpbusd_epi32(chain, unknown(x, chain), weights); };
  for (std::size_t round = 0; round < rounds; ++round) {
    step(a);
    step(b);
    step(c);
    step(d);
    step(e);
    step(f);
    step(g);
    step(h);
    step(i);
    step(j);
    step(k);
    step(l);
  }
  const __m512i others[kChains - 1] = {b, c, d, e, f, g, h, i, j, k, l};
  for (const __m512i chain : others) a = _mm512_add_epi32(a, chain);
  *sum += _mm512_reduce_add_epi32(a);
  return 2 * std::uint64_t{kChains * sizeof(__m512i)} * rounds;
}

}  // namespace

void add_avx512_peak(Table& table) noexcept {
  table.read_sum = read_sum;
  table.multiply_int8 = multiply_int8;
}

}  // namespace qwen35::cpu
