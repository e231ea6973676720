// mma.sync.m16n8: the fragments of "PTX ISA, Matrix fragments for mma". With g = lane / 4 and t = lane % 4, a register
// of a or b holds `kPer` = 32 bits / type neighbours along k:
//   a[i]: row g + 8 (i % 2), k = 4 kPer (i / 2) + kPer t and on     b[i]: column g, k = 4 kPer i + kPer t and on
//   d[i]: row g + 8 (i / 2), column 2 t + i % 2
#include <bit>
#include <cstdint>
#include <cstring>

#include "collectives.h"
#include "fibers.h"

namespace simt {

namespace {

struct Fragments {
  const unsigned* a;
  const unsigned* b;
  void* d;
};

struct Bf16 {
  std::uint16_t bits;
  operator float() const { return std::bit_cast<float>(unsigned{bits} << 16); }
};

// Element is what lies in a register, Value what is multiplied, Sum what is summed, Result what is kept.
template <class Element, class Value, class Sum, class Result, unsigned kDepth>
void multiply(void* const (&places)[kWarp], unsigned) {
  constexpr unsigned kPer = 4 / sizeof(Element), kSpan = 4 * kPer;
  Value a[16][kDepth], b[8][kDepth];
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    const auto& mine = *static_cast<const Fragments*>(places[lane]);
    const unsigned g = lane / 4, t = lane % 4;
    for (unsigned i = 0; i < kDepth / kSpan; ++i) {
      Element elements[3][kPer];
      std::memcpy(elements[0], &mine.a[2 * i], 4);
      std::memcpy(elements[1], &mine.a[2 * i + 1], 4);
      std::memcpy(elements[2], &mine.b[i], 4);
      for (unsigned j = 0; j < kPer; ++j) {
        const unsigned k = kSpan * i + kPer * t + j;
        a[g][k] = Value(elements[0][j]), a[g + 8][k] = Value(elements[1][j]), b[g][k] = Value(elements[2][j]);
      }
    }
  }
  for (unsigned lane = 0; lane < kWarp; ++lane) {
    auto* d = static_cast<Result*>(static_cast<const Fragments*>(places[lane])->d);
    for (unsigned i = 0; i < 4; ++i) {
      const Value* row = a[lane / 4 + 8 * (i / 2)];
      const Value* column = b[2 * (lane % 4) + i % 2];
      Sum sum = 0;
      for (unsigned k = 0; k < kDepth; ++k) sum += Sum(row[k]) * Sum(column[k]);
      d[i] = Result(Sum(d[i]) + sum);
    }
  }
}

template <class Element, class Value, class Sum, class Result, unsigned kDepth>
void mma(Result* d, const unsigned* a, const unsigned* b) {
  Fragments mine{a, b, d};
  warp_wait(~0u, Wait::kMma, &mine, multiply<Element, Value, Sum, Result, kDepth>);
}

}  // namespace

// Sums of int8 wrap: unsigned arithmetic says so in C++.
void mma_s8_k16(int (&d)[4], const unsigned (&a)[2], const unsigned (&b)[1]) {
  mma<std::int8_t, int, unsigned, int, 16>(d, a, b);
}
void mma_s8_k32(int (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  mma<std::int8_t, int, unsigned, int, 32>(d, a, b);
}
void mma_f16_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  mma<_Float16, float, double, float, 16>(d, a, b);
}
void mma_bf16_k16(float (&d)[4], const unsigned (&a)[4], const unsigned (&b)[2]) {
  mma<Bf16, float, double, float, 16>(d, a, b);
}

}  // namespace simt
