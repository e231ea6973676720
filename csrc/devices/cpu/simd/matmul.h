// The panel kernels as templates over an instruction set: V is an Isa trait (avx2/isa.h, neon/isa.h) with the integer
// operations of its folder's matmul.cpp added. Lanes are rows of the weights; a tile of activation rows shares every
// load of weights. The order of operations is the reference kernel's, whatever the tile.
#pragma once

#include <atomic>
#include <bit>
#include <type_traits>
#include <utility>

#include "devices/cpu/matmul_kernels.h"
#include "devices/cpu/simd/math.h"
#include "devices/cpu/simd/panel_formats.h"

namespace qwen35::cpu {
namespace {

// How far ahead weights are asked for, in bytes: into the second-level cache, for the latency of memory, and from there
// into the first, whose few outstanding misses are then short ones. Tiles that compute for longer than memory takes ask
// behind what the hardware's own prefetcher has underway: nearer by, the two are in each other's way.
struct Ahead {
  std::size_t far;
  std::size_t near;
};
constexpr Ahead kWaiting{.far = 3072, .near = 1024};
constexpr Ahead kComputing{.far = 12288, .near = 1024};

// ---- rounding ----------------------------------------------------------------------------------------------------

struct QuantisedScale {
  float scale;
  float factor;  // codes are x * factor; 0 where all codes are 0
};

// From the bits of the largest magnitude, as in the reference kernel: infinity and NaN order above every number.
static inline QuantisedScale quantised_scale(std::uint32_t largest) noexcept {
  if (largest >= 0x7f800000u) return {std::bit_cast<float>(0x7fc00000u), 0.0f};
  const float most = std::bit_cast<float>(largest);
  if (most < 0x1p-100f) return {0.0f, 0.0f};
  return {most / 127.0f, 127.0f / most};
}

static inline void finish_block(QuantisedBlock& out, float scale, std::int32_t first, std::int32_t second) noexcept {
  out.scale = scale;
  out.sum = scale * static_cast<float>(first + second);
  out.minus_codes = -(first + second);
  out.minus_first_codes = -first;
}

// ---- tiles -------------------------------------------------------------------------------------------------------

template <class V, Ahead kAhead>
void prefetch(const void* from, std::size_t bytes) noexcept {
  for (std::size_t i = 0; i < bytes; i += 64) {
    V::prefetch_far(static_cast<const char*>(from) + i + kAhead.far);
    V::prefetch(static_cast<const char*>(from) + i + kAhead.near);
  }
}

// Of what a part of a unit asks for, one of `kShares` equal shares.
template <class V, class Format, Ahead kAhead, std::size_t share = 0, std::size_t kShares = 1>
void prefetch_part(const typename Format::Unit& unit, std::size_t part) noexcept {
  constexpr std::size_t kBytes = sizeof unit / Format::kParts, kLines = (kBytes + 63) / 64;
  constexpr std::size_t kFirst = share * kLines / kShares, kEnd = (share + 1) * kLines / kShares;
  prefetch<V, kAhead>(reinterpret_cast<const char*>(&unit) + part * kBytes + 64 * kFirst, 64 * (kEnd - kFirst));
}

// Whether a tile computes for longer than its weights take from memory.
template <class Format, std::size_t kRows>
constexpr bool kComputes = kRows > Format::kWaitingRows;

// Whether a tile that waits for memory asks for it ahead on all processors: where a code takes a byte.
template <class Format>
constexpr bool kIsWide = sizeof(typename Format::Unit) / Format::kParts > 32 * kPanelRows;

// Whether a tile asks for the next weights little by little. A core keeps some sixteen lines underway: a tile that
// computes for long between two parts would fill them all at once, and its own loads would wait for memory behind them.
template <class V, class Format, std::size_t kRows>
constexpr bool kSpreads = V::kWidth * V::kRowVectors == kPanelRows && kComputes<Format, kRows>;

// Results of a tile, [rows][kPanelRows], to where they belong.
template <class V>
void store_tile(const PanelArgs& a, std::size_t first, std::size_t rows, const float* tile) noexcept {
  for (std::size_t i = 0; i < rows; ++i) {
    float* out = a.out[first + i] + a.out_first;
    std::size_t lane = 0;
    for (; lane + V::kWidth <= a.live; lane += V::kWidth) {
      const auto x = V::load(tile + i * kPanelRows + lane);
      V::store(out + lane, a.adds ? V::add(V::load(out + lane), x) : x);
    }
    if (lane < a.live) {
      const auto x = V::load(tile + i * kPanelRows + lane);
      const std::size_t n = a.live - lane;
      V::store_first(out + lane, a.adds ? V::add(V::load_first(out + lane, n), x) : x, n);
    }
  }
}

// Some columns of a block: half 0, half 1, or (2) all.
constexpr std::size_t kAll = 2;

template <std::size_t kColumns>
std::int32_t minus_codes(const QuantisedBlock& x) noexcept {
  if constexpr (kColumns == kAll) return x.minus_codes;
  return kColumns == 0 ? x.minus_first_codes : x.minus_codes - x.minus_first_codes;
}

// The codes' sum times minus the offset of the weights' codes.
template <class V, class Format, std::size_t kColumns>
typename V::I bias(const QuantisedBlock& x) noexcept {
  if constexpr (Format::kOffsetBits == 0) return V::set(std::int32_t{0});
  return V::template shift_left<Format::kOffsetBits>(V::set(minus_codes<kColumns>(x)));
}

// The sum of the quantised activations.
template <std::size_t kColumns>
float column_sum(const QuantisedBlock& x) noexcept {
  if constexpr (kColumns == kAll) return x.sum;
  return static_cast<float>(-minus_codes<kColumns>(x)) * x.scale;
}

// body(0), body(1), ... as compile-time constants.
template <std::size_t kCount, class Body>
void unroll(Body&& body) noexcept {
  [&]<std::size_t... i>(std::index_sequence<i...>) {
    (body(std::integral_constant<std::size_t, i>{}), ...);
  }(std::make_index_sequence<kCount>{});
}

// sums += weights of some columns times the activations, for V::kRowVectors vectors of rows from `lane`.
template <class V, class Format, std::size_t kColumns, std::size_t kRows>
void add_products(const typename Format::Unit& unit, std::size_t part, std::size_t lane,
                  const QuantisedBlock* const (&x)[kRows], typename V::F (&sums)[V::kRowVectors][kRows]) noexcept {
  constexpr std::size_t kVectors = V::kRowVectors, kHalves = kColumns == kAll ? 2 : 1;
  typename V::template Sum<Format::kBits> products[kVectors][kRows];
  for (std::size_t i = 0; i < kRows; ++i) {
    for (std::size_t v = 0; v < kVectors; ++v) products[v][i].start(bias<V, Format, kColumns>(*x[i]));
  }
  unroll<4 * kHalves>([&](auto step) {
    constexpr std::size_t j = step / kHalves, half = kColumns == kAll ? step % 2 : kColumns;
    if constexpr (kSpreads<V, Format, kRows>) {
      prefetch_part<V, Format, kComputing, j + 4 * half, 8>(unit, part);
    }
    typename V::I w[kVectors];
    for (std::size_t v = 0; v < kVectors; ++v) {
      w[v] = Format::template codes<half, j>(unit, part, lane + v * V::kWidth);
    }
    for (std::size_t i = 0; i < kRows; ++i) {
      const auto four = V::template repeat_four<j>(x[i]->codes + 16 * half);
      for (std::size_t v = 0; v < kVectors; ++v) products[v][i].template add<step, j>(w[v], four);
    }
  });
  for (std::size_t v = 0; v < kVectors; ++v) {
    const auto scale = Format::scale(unit, part, kColumns % kAll, lane + v * V::kWidth);
    for (std::size_t i = 0; i < kRows; ++i) {
      const auto product = V::to_float(products[v][i].finish(bias<V, Format, kColumns>(*x[i])));
      sums[v][i] = V::fma(product, V::mul(scale, V::set(x[i]->scale)), sums[v][i]);
    }
  }
}

template <class V, class Format, std::size_t kColumns, std::size_t kRows>
void subtract_mins(const typename Format::Unit& unit, std::size_t part, std::size_t lane,
                   const QuantisedBlock* const (&x)[kRows], typename V::F (&sums)[V::kRowVectors][kRows]) noexcept {
  for (std::size_t v = 0; v < V::kRowVectors; ++v) {
    const auto min = Format::min(unit, part, kColumns % kAll, lane + v * V::kWidth);
    for (std::size_t i = 0; i < kRows; ++i) {
      sums[v][i] = V::subtract_product(sums[v][i], min, V::set(column_sum<kColumns>(*x[i])));
    }
  }
}

// One block of 32 columns.
template <class V, class Format, std::size_t kRows>
void add_block(const typename Format::Unit& unit, std::size_t part, std::size_t lane,
               const QuantisedBlock* const (&x)[kRows], typename V::F (&sums)[V::kRowVectors][kRows]) noexcept {
  if constexpr (Format::kHasHalves) {
    add_products<V, Format, 0>(unit, part, lane, x, sums);
    // The second half loads its nibbles again: kept from the first, they would push the sums of more than four rows out
    // of the registers.
    if constexpr (kRows > V::kRegisters / 8) std::atomic_signal_fence(std::memory_order_seq_cst);
    add_products<V, Format, 1>(unit, part, lane, x, sums);
    if constexpr (Format::kHasMins) {
      subtract_mins<V, Format, 0>(unit, part, lane, x, sums);
      subtract_mins<V, Format, 1>(unit, part, lane, x, sums);
    }
  } else {
    add_products<V, Format, kAll>(unit, part, lane, x, sums);
    if constexpr (Format::kHasMins) subtract_mins<V, Format, kAll>(unit, part, lane, x, sums);
  }
}

template <class V, class Format, std::size_t kRows>
void quantised_tile(const PanelArgs& a, std::size_t first) noexcept {
  using Unit = typename Format::Unit;
  constexpr std::size_t kStep = V::kWidth * V::kRowVectors, kSteps = kPanelRows / kStep;
  const QuantisedBlock* x[kRows];
  typename V::F sums[kSteps][V::kRowVectors][kRows];
  for (std::size_t i = 0; i < kRows; ++i) {
    x[i] = a.quantised[first + i];
    for (auto& step : sums) {
      for (auto& vector : step) vector[i] = V::zero();
    }
  }
  const bool prefetches = a.prefetches || kIsWide<Format>;
  const auto* unit = reinterpret_cast<const Unit*>(a.panel);
  for (std::size_t n = a.cols / (32 * Format::kParts); n != 0; --n, ++unit) {
    for (std::size_t part = 0; part < Format::kParts; ++part) {
      if constexpr (!kComputes<Format, kRows>) {
        if (prefetches) prefetch_part<V, Format, kWaiting>(*unit, part);
      } else if constexpr (!kSpreads<V, Format, kRows>) {
        prefetch_part<V, Format, kComputing>(*unit, part);
      }
      for (std::size_t s = 0; s < kSteps; ++s) add_block<V, Format, kRows>(*unit, part, s * kStep, x, sums[s]);
      for (auto& row : x) ++row;
    }
  }
  const auto each_sum = [&](auto&& to) {
    for (std::size_t i = 0; i < kRows; ++i) {
      for (std::size_t v = 0; v < kPanelRows / V::kWidth; ++v) {
        to(i, v * V::kWidth, sums[v / V::kRowVectors][v % V::kRowVectors][i]);
      }
    }
  };
  if (a.live == kPanelRows) {
    each_sum([&](std::size_t i, std::size_t lane, typename V::F sum) {
      float* out = a.out[first + i] + a.out_first + lane;
      V::store(out, a.adds ? V::add(V::load(out), sum) : sum);
    });
    return;
  }
  alignas(64) float tile[kRows][kPanelRows];
  each_sum([&](std::size_t i, std::size_t lane, typename V::F sum) { V::store(tile[i] + lane, sum); });
  store_tile<V>(a, first, kRows, tile[0]);
}

template <class V, class Format, std::size_t kRows>
void exact_tile(const PanelArgs& a, std::size_t first) noexcept {
  constexpr std::size_t kVectors = kPanelRows / V::kWidth;
  const float* x[kRows];
  typename V::F sums[kVectors][kRows];
  for (std::size_t i = 0; i < kRows; ++i) x[i] = a.exact[first + i];
  // Vectors by compile-time constants: eight of them, counted by a loop, would stay in memory.
  unroll<kVectors>([&](auto v) {
    for (auto& sum : sums[v]) sum = V::zero();
  });
  const bool prefetches = a.prefetches;
  const auto* unit = reinterpret_cast<const typename Format::Unit*>(a.panel);
  for (std::size_t c = 0; c < a.cols; ++c, ++unit) {
    if constexpr (kComputes<Format, kRows>) {
      prefetch<V, kComputing>(unit, sizeof *unit);
    } else if (prefetches) {
      prefetch<V, kWaiting>(unit, sizeof *unit);
    }
    unroll<kVectors>([&](auto v) {
      const auto w = Format::values(*unit, v * V::kWidth);
      for (std::size_t i = 0; i < kRows; ++i) sums[v][i] = V::fma(w, V::set(x[i][c]), sums[v][i]);
    });
  }
  alignas(64) float tile[kRows][kPanelRows];
  unroll<kVectors>([&](auto v) {
    for (std::size_t i = 0; i < kRows; ++i) V::store(tile[i] + v * V::kWidth, sums[v][i]);
  });
  store_tile<V>(a, first, kRows, tile[0]);
}

// ---- the table's entries -----------------------------------------------------------------------------------------

using Tile = void (*)(const PanelArgs&, std::size_t) noexcept;

// The rows in tiles as equal as can be, none above kMost.
template <std::size_t kMost>
void split(const PanelArgs& a, const Tile (&tiles)[kMost]) noexcept {
  const std::size_t count = (a.rows + kMost - 1) / kMost;
  for (std::size_t i = 0, first = 0; i < count; ++i) {
    const std::size_t rows = (a.rows - first) / (count - i);
    tiles[rows - 1](a, first);
    first += rows;
  }
}

template <class V, class Format>
void quantised_matmul(const PanelArgs& a) noexcept {
  [&]<std::size_t... kLess>(std::index_sequence<kLess...>) {
    constexpr Tile kTiles[] = {quantised_tile<V, Format, kLess + 1>...};
    split(a, kTiles);
  }(std::make_index_sequence<V::kTileRows>{});
}

template <class V, class Format>
void exact_matmul(const PanelArgs& a) noexcept {
  [&]<std::size_t... kLess>(std::index_sequence<kLess...>) {
    constexpr Tile kTiles[] = {exact_tile<V, Format, kLess + 1>...};
    split(a, kTiles);
  }(std::make_index_sequence<V::kExactTileRows>{});
}

template <class V>
void silu_multiply(float* out, const float* gate, const float* up, std::size_t count) noexcept {
  std::size_t i = 0;
  for (; i + V::kWidth <= count; i += V::kWidth) {
    V::store(out + i, V::mul(silu_of<V>(V::load(gate + i)), V::load(up + i)));
  }
  if (i < count) {
    const std::size_t n = count - i;
    V::store_first(out + i, V::mul(silu_of<V>(V::load_first(gate + i, n)), V::load_first(up + i, n)), n);
  }
}

template <class V>
void quantise_rows(QuantisedBlock* out, const float* x, std::size_t blocks) noexcept {
  for (std::size_t b = 0; b < blocks; ++b) V::quantise_block(out[b], x + b * kQuantisedColumns);
}

template <class V>
void add_matmul(MatmulTable& table) noexcept {
  table.quantise_rows = quantise_rows<V>;
  table.silu_multiply = silu_multiply<V>;
#define QWEN35_INTEGERS(name) \
  table.panel_matmul[static_cast<std::size_t>(PanelFormat::k##name)] = quantised_matmul<V, Format##name<V>>;
#define QWEN35_FLOATS(name) \
  table.panel_matmul[static_cast<std::size_t>(PanelFormat::k##name)] = exact_matmul<V, Format##name<V>>;
  QWEN35_INTEGER_FORMATS(QWEN35_INTEGERS)
  QWEN35_FLOAT_FORMATS(QWEN35_FLOATS)
#undef QWEN35_INTEGERS
#undef QWEN35_FLOATS
}

}  // namespace
}  // namespace qwen35::cpu
