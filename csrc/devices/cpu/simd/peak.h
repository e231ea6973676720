// read_sum and multiply_int8 for any instruction set. Bytes is a thin trait: kBytes of a vector V, zero(), value(byte),
// add_words(V, address), prefetch(address), sum(V), hide(V&), and step(chain, x, w): chain plus kProducts products of
// the bytes of x and w.
#pragma once

#include "devices/cpu/kernels.h"

namespace qwen35::cpu {
namespace {

template <class Bytes>
struct Peak {
  using V = typename Bytes::V;

  static std::uint64_t read_sum(const std::byte* data, std::size_t bytes, std::size_t ahead) noexcept {
    // Four at a time: of eight requests at once some wait, and what follows them too (measured: 15 against 19 GB/s).
    V a = Bytes::zero(), b = a, c = a, d = a;
    constexpr std::size_t n = Bytes::kBytes;
    static_assert(kReadBlock % (4 * n) == 0);
    for (const std::byte* end = data + bytes; data != end; data += 4 * n) {
      for (std::size_t i = 0; i < 4 * n; i += 64) Bytes::prefetch(data + ahead + i);
      a = Bytes::add_words(a, data);
      b = Bytes::add_words(b, data + n);
      c = Bytes::add_words(c, data + 2 * n);
      d = Bytes::add_words(d, data + 3 * n);
    }
    std::uint64_t total = 0;
    const V sums[] = {a, b, c, d};
    for (const V& part : sums) total += Bytes::sum(part);
    return total;
  }

  // Twelve chains: five cycles at two a cycle want ten under way. Variables, not an array: GCC keeps an array's twin in
  // memory.
  static std::uint64_t multiply_int8(std::size_t rounds, std::uint32_t* total) noexcept {
    const V w = Bytes::value(3);
    V x = Bytes::value(5);
    V a = Bytes::zero(), b = a, c = a, d = a, e = a, f = a, g = a, h = a, i = a, j = a, k = a, l = a;
    const auto step = [&](V& chain) noexcept {
      unknown(x, chain);
      chain = Bytes::step(chain, x, w);
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
      step(i);
      step(j);
      step(k);
      step(l);
    }
    constexpr std::size_t kChains = 12;
    const V chains[kChains] = {a, b, c, d, e, f, g, h, i, j, k, l};
    for (const V& chain : chains) *total += static_cast<std::uint32_t>(Bytes::sum(chain));
    return 2 * std::uint64_t{kChains} * Bytes::kProducts * rounds;
  }

  static void add_to(Table& table) noexcept {
    table.read_sum = read_sum;
    table.multiply_int8 = multiply_int8;
  }

 private:
  // The compiler may no longer assume to know that x never changes: else one product would do for all. Costs no
  // instruction; compilers without this way of saying so are given the chain's own sum to multiply.
  static void unknown(V& x, [[maybe_unused]] const V& chain) noexcept {
#if defined(_MSC_VER) && !defined(__clang__)
    x = chain;
#else
    Bytes::hide(x);
#endif
  }
};

}  // namespace
}  // namespace qwen35::cpu
