// Panel products with the 8-bit matrix instructions. smmla multiplies two rows of eight activations with two rows of
// eight weights; a panel has four columns of a row in a lane, so the lanes of two neighbouring groups of four are
// zipped into rows of eight.
//
// Vector arithmetic per block of 32, four rows of weights and six of activations, 4 bits: 77 instructions with sdot (48
// products), 61 here (24 products, 4 zips, 2 to spread the scales, 4 to interleave the activations). For four rows it
// is 55 and 47, for three 44 and 47: up to three rows take neon/'s way.
#include <iterator>

#include "devices/cpu/neon/integers.h"

namespace qwen35::cpu {
namespace {

// One block of two rows of activations in the order of the results: each lane pair belongs to one of the rows.
struct Pair {
  int8x16_t codes[4];  // eight columns of the first row, the same of the second
  float32x4_t scale;
  float32x4_t sums[3];  // of columns: half 0, half 1, all
  int32x4_t bias[3];
};

template <class Format, std::size_t kColumns>
void pair_sums(Pair& pair, const QuantisedBlock& a, const QuantisedBlock& b) noexcept {
  const std::int32_t minus[2] = {minus_codes<kColumns>(a), minus_codes<kColumns>(b)};
  if constexpr (Format::kOffsetBits == 0) {
    pair.bias[kColumns] = vdupq_n_s32(0);
  } else {
    const int32x4_t both = vcombine_s32(vdup_n_s32(minus[0]), vdup_n_s32(minus[1]));
    pair.bias[kColumns] = vshlq_n_s32(both, Format::kOffsetBits);
  }
  if constexpr (Format::kHasMins) {
    pair.sums[kColumns] = vcombine_f32(vdup_n_f32(column_sum<kColumns>(a)), vdup_n_f32(column_sum<kColumns>(b)));
  }
}

template <class Format>
void prepare(Pair& pair, const QuantisedBlock& a, const QuantisedBlock& b) noexcept {
  for (std::size_t half = 0; half < 2; ++half) {
    const int64x2_t first = vreinterpretq_s64_s8(vld1q_s8(a.codes + 16 * half));
    const int64x2_t second = vreinterpretq_s64_s8(vld1q_s8(b.codes + 16 * half));
    pair.codes[2 * half] = vreinterpretq_s8_s64(vzip1q_s64(first, second));
    pair.codes[2 * half + 1] = vreinterpretq_s8_s64(vzip2q_s64(first, second));
  }
  pair.scale = vcombine_f32(vdup_n_f32(a.scale), vdup_n_f32(b.scale));
  if constexpr (Format::kHasHalves) {
    pair_sums<Format, 0>(pair, a, b);
    pair_sums<Format, 1>(pair, a, b);
  } else {
    pair_sums<Format, kAll>(pair, a, b);
  }
}

// Rows 0 and 1, and rows 2 and 3, of four.
template <class T>
struct TwoRows {
  T first, second;
};

TwoRows<int32x4_t> zip(int32x4_t a, int32x4_t b) noexcept { return {vzip1q_s32(a, b), vzip2q_s32(a, b)}; }

// A value per row of weights, in the order of the results.
TwoRows<float32x4_t> spread(float32x4_t x) noexcept {
  const float64x2_t pairs = vreinterpretq_f64_f32(x);
  return {vreinterpretq_f32_f64(vdupq_laneq_f64(pairs, 0)), vreinterpretq_f32_f64(vdupq_laneq_f64(pairs, 1))};
}

// Codes as they are loaded, zipped with those of the four columns that follow.
struct Zipped : NeonIntegers {
  using I = TwoRows<int32x4_t>;
  using N = NeonIntegers;

  static I load_codes(const std::uint8_t* p) noexcept {
    return zip(N::load_codes(p), N::load_codes(p + sizeof(std::uint8_t[kPanelRows][4])));
  }
  static int32x4_t both(int32x4_t a, int32x4_t b) noexcept { return N::both(a, b); }
  static I both(I a, int32x4_t b) noexcept { return {N::both(a.first, b), N::both(a.second, b)}; }
  template <std::size_t n>
  static I shift_right(I x) noexcept {
    return {N::shift_right<n>(x.first), N::shift_right<n>(x.second)};
  }
  static I whole_bytes(I x) noexcept { return {N::whole_bytes(x.first), N::whole_bytes(x.second)}; }
  static I look_up(const std::int8_t* table, I x) noexcept {
    return {N::look_up(table, x.first), N::look_up(table, x.second)};
  }
  static I levels(I x) noexcept { return {N::levels(x.first), N::levels(x.second)}; }
};

// Columns [8 m, 8 m + 8) of one half of a block. Fifth and sixth bits lie beside the nibbles with a shift for each four
// columns: those codes are put together first and zipped last.
template <template <class> class Format, std::size_t half, std::size_t m>
TwoRows<int32x4_t> eight_columns(const typename Format<NeonIntegers>::Unit& unit, std::size_t part,
                                 std::size_t lane) noexcept {
  using Plain = Format<NeonIntegers>;
  if constexpr (Plain::kBits == 5 || Plain::kBits == 6) {
    return zip(Plain::template codes<half, 2 * m>(unit, part, lane),
               Plain::template codes<half, 2 * m + 1>(unit, part, lane));
  } else {
    return Format<Zipped>::template codes<half, 2 * m>(unit, part, lane);
  }
}

constexpr std::size_t kQuads = 2;  // four rows of weights each, side by side: for three pairs, 12 of the 32 registers

template <std::size_t kPairs>
using PairSums = TwoRows<float32x4_t>[kPairs];

template <template <class> class Format, std::size_t kColumns, std::size_t kPairs>
void add_pair_products(const typename Format<NeonIntegers>::Unit& unit, std::size_t part, std::size_t lane,
                       const Pair (&x)[kPairs], PairSums<kPairs>* sums) noexcept {
  constexpr std::size_t kHalves = kColumns == kAll ? 2 : 1;
  TwoRows<int32x4_t> products[kQuads][kPairs];
  for (auto& quad : products) {
    for (std::size_t p = 0; p < kPairs; ++p) quad[p].first = quad[p].second = x[p].bias[kColumns];
  }
  unroll<2 * kHalves>([&](auto step) {
    constexpr std::size_t m = step / kHalves, half = kColumns == kAll ? step % 2 : kColumns;
    for (std::size_t q = 0; q < kQuads; ++q) {
      const auto w = eight_columns<Format, half, m>(unit, part, lane + 4 * q);
      for (std::size_t p = 0; p < kPairs; ++p) {
        const int8x16_t codes = x[p].codes[2 * half + m];
        products[q][p].first = vmmlaq_s32(products[q][p].first, codes, vreinterpretq_s8_s32(w.first));
        products[q][p].second = vmmlaq_s32(products[q][p].second, codes, vreinterpretq_s8_s32(w.second));
      }
    }
  });
  for (std::size_t q = 0; q < kQuads; ++q) {
    const auto scale = spread(Format<NeonIntegers>::scale(unit, part, kColumns % kAll, lane + 4 * q));
    for (std::size_t p = 0; p < kPairs; ++p) {
      auto& [first, second] = sums[q][p];
      first = Neon::fma(vcvtq_f32_s32(products[q][p].first), Neon::mul(scale.first, x[p].scale), first);
      second = Neon::fma(vcvtq_f32_s32(products[q][p].second), Neon::mul(scale.second, x[p].scale), second);
    }
  }
}

template <template <class> class Format, std::size_t kColumns, std::size_t kPairs>
void subtract_pair_mins(const typename Format<NeonIntegers>::Unit& unit, std::size_t part, std::size_t lane,
                        const Pair (&x)[kPairs], PairSums<kPairs>* sums) noexcept {
  for (std::size_t q = 0; q < kQuads; ++q) {
    const auto min = spread(Format<NeonIntegers>::min(unit, part, kColumns % kAll, lane + 4 * q));
    for (std::size_t p = 0; p < kPairs; ++p) {
      auto& [first, second] = sums[q][p];
      first = Neon::subtract_product(first, min.first, x[p].sums[kColumns]);
      second = Neon::subtract_product(second, min.second, x[p].sums[kColumns]);
    }
  }
}

// One block of 32 columns of eight rows of weights; the order of simd/matmul.h's add_block.
template <template <class> class Format, std::size_t kPairs>
void add_pair_block(const typename Format<NeonIntegers>::Unit& unit, std::size_t part, std::size_t lane,
                    const Pair (&x)[kPairs], PairSums<kPairs>* sums) noexcept {
  constexpr bool kHasMins = Format<NeonIntegers>::kHasMins;
  if constexpr (Format<NeonIntegers>::kHasHalves) {
    add_pair_products<Format, 0>(unit, part, lane, x, sums);
    std::atomic_signal_fence(std::memory_order_seq_cst);
    add_pair_products<Format, 1>(unit, part, lane, x, sums);
    if constexpr (kHasMins) subtract_pair_mins<Format, 0>(unit, part, lane, x, sums);
    if constexpr (kHasMins) subtract_pair_mins<Format, 1>(unit, part, lane, x, sums);
  } else {
    add_pair_products<Format, kAll>(unit, part, lane, x, sums);
    if constexpr (kHasMins) subtract_pair_mins<Format, kAll>(unit, part, lane, x, sums);
  }
}

// An odd last row is its own partner.
template <template <class> class Format, std::size_t kPairs>
void pair_tile(const PanelArgs& a, std::size_t first_row, std::size_t rows) noexcept {
  using Unit = typename Format<NeonIntegers>::Unit;
  constexpr std::size_t kParts = Format<NeonIntegers>::kParts;
  const QuantisedBlock* x[2 * kPairs];
  for (std::size_t i = 0; i < 2 * kPairs; ++i) x[i] = a.quantised[first_row + (i < rows ? i : rows - 1)];
  PairSums<kPairs> sums[kPanelRows / 4];
  for (auto& quad : sums) {
    for (auto& pair : quad) pair = {Neon::zero(), Neon::zero()};
  }
  const auto* unit = reinterpret_cast<const Unit*>(a.panel);
  for (std::size_t n = a.cols / (32 * kParts); n != 0; --n, ++unit) {
    for (std::size_t part = 0; part < kParts; ++part) {
      constexpr std::size_t kPartBytes = sizeof(Unit) / kParts;
      prefetch<NeonIntegers, kWaiting>(reinterpret_cast<const char*>(unit) + part * kPartBytes, kPartBytes);
      Pair pairs[kPairs];
      for (std::size_t p = 0; p < kPairs; ++p) prepare<Format<NeonIntegers>>(pairs[p], *x[2 * p]++, *x[2 * p + 1]++);
      for (std::size_t lane = 0; lane < kPanelRows; lane += 4 * kQuads) {
        add_pair_block<Format, kPairs>(*unit, part, lane, pairs, sums + lane / 4);
      }
    }
  }
  alignas(64) float tile[2 * kPairs][kPanelRows];
  for (std::size_t q = 0; q < kPanelRows / 4; ++q) {
    for (std::size_t p = 0; p < kPairs; ++p) {
      const auto& [low, high] = sums[q][p];
      Neon::store(tile[2 * p] + 4 * q, vcombine_f32(vget_low_f32(low), vget_low_f32(high)));
      Neon::store(tile[2 * p + 1] + 4 * q, vcombine_f32(vget_high_f32(low), vget_high_f32(high)));
    }
  }
  store_tile<Neon>(a, first_row, rows, tile[0]);
}

// Pairs of rows in tiles of two or three.
template <template <class> class Format>
void pair_matmul(const PanelArgs& a) noexcept {
  using Plain = Format<NeonIntegers>;
  constexpr Tile kFew[] = {quantised_tile<NeonIntegers, Plain, 1>, quantised_tile<NeonIntegers, Plain, 2>,
                           quantised_tile<NeonIntegers, Plain, 3>};
  if (a.rows <= std::size(kFew)) {
    if (a.rows > 0) kFew[a.rows - 1](a, 0);
    return;
  }
  const std::size_t pairs = (a.rows + 1) / 2, tiles = (pairs + 2) / 3;
  for (std::size_t i = 0, first = 0; i < tiles; ++i) {
    const std::size_t left = a.rows - first, share = 2 * ((pairs - first / 2) / (tiles - i));
    const std::size_t rows = share < left ? share : left;
    if (rows > 4) {
      pair_tile<Format, 3>(a, first, rows);
    } else {
      pair_tile<Format, 2>(a, first, rows);
    }
    first += rows;
  }
}

}  // namespace

void add_neon_i8mm_matmul(MatmulTable& table) noexcept {
#define QWEN35_INTEGERS(name) \
  table.panel_matmul[static_cast<std::size_t>(PanelFormat::k##name)] = pair_matmul<Format##name>;
  QWEN35_INTEGER_FORMATS(QWEN35_INTEGERS)
#undef QWEN35_INTEGERS
}

}  // namespace qwen35::cpu
