// The scalar twins of the matrix kernels, and the definition of their results: the vector kernels give the same bits.
#include <bit>
#include <cmath>
#include <limits>
#include <utility>

#include "devices/cpu/math.h"
#include "devices/cpu/matmul_kernels.h"
#include "devices/cpu/panels.h"

namespace qwen35::cpu {
namespace {

// Bits of a float as an integer order its magnitude, and place infinity and NaN above everything.
constexpr std::uint32_t kInfinityBits = 0x7f800000u;
// Below 2^-100 the factor 127 / amax could overflow; such a block is zero.
constexpr float kTiny = 0x1p-100f;

void quantise_block(QuantisedBlock& out, const float* x) noexcept {
  std::uint32_t largest = 0;
  for (std::size_t i = 0; i < kQuantisedColumns; ++i) {
    const std::uint32_t magnitude = std::bit_cast<std::uint32_t>(x[i]) & 0x7fffffffu;
    largest = magnitude > largest ? magnitude : largest;
  }
  out = QuantisedBlock{};
  if (largest >= kInfinityBits) {
    out.scale = out.sum = std::numeric_limits<float>::quiet_NaN();
    return;
  }
  const float most = std::bit_cast<float>(largest);
  if (most < kTiny) return;
  const float factor = 127.0f / most;
  for (std::size_t i = 0; i < kQuantisedColumns; ++i) {
    const float shifted = x[i] * factor + kRoundToInteger;  // to the nearest integer, ties to even
    const int code = static_cast<int>(shifted - kRoundToInteger);
    out.codes[i] = static_cast<std::int8_t>(code);
    out.minus_codes -= code;
    if (i < 16) out.minus_first_codes -= code;
  }
  out.scale = most / 127.0f;
  out.sum = out.scale * static_cast<float>(-out.minus_codes);
}

void quantise_rows(QuantisedBlock* out, const float* x, std::size_t blocks) noexcept {
  for (std::size_t b = 0; b < blocks; ++b) quantise_block(out[b], x + b * kQuantisedColumns);
}

int dot(const int* q, const std::int8_t* codes, std::size_t n) noexcept {
  int sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += q[i] * codes[i];
  return sum;
}

template <class Reader>
float add_block(float sum, const RowCodes& w, const QuantisedBlock& x) noexcept {
  if constexpr (Reader::kHasHalves) {
    const int codes[2] = {-x.minus_first_codes, x.minus_first_codes - x.minus_codes};
    for (std::size_t half = 0; half < 2; ++half) {
      const float product = static_cast<float>(dot(w.q + 16 * half, x.codes + 16 * half, 16));
      sum = std::fmaf(product, w.scale[half] * x.scale, sum);
    }
    for (std::size_t half = 0; Reader::kHasMins && half < 2; ++half) {
      sum = std::fmaf(-w.min[half], static_cast<float>(codes[half]) * x.scale, sum);
    }
  } else {
    const float product = static_cast<float>(dot(w.q, x.codes, 32));
    sum = std::fmaf(product, w.scale[0] * x.scale, sum);
    if (Reader::kHasMins) sum = std::fmaf(-w.min[0], x.sum, sum);
  }
  return sum;
}

constexpr std::size_t kTile = 16;  // rows of activations that share one reading of the weights

template <class Reader>
void quantised_tile(const PanelArgs& a, std::size_t row, std::size_t first, std::size_t count, float* sums) noexcept {
  const auto* units = reinterpret_cast<const typename Reader::Unit*>(a.panel);
  for (std::size_t block = 0; block < a.cols / 32; ++block) {
    RowCodes w;
    Reader::read(units[block * 32 / Reader::kColumns], block % (Reader::kColumns / 32), row, w);
    for (std::size_t i = 0; i < count; ++i) {
      sums[i] = add_block<Reader>(sums[i], w, a.quantised[first + i][block]);
    }
  }
}

template <class Reader>
void exact_tile(const PanelArgs& a, std::size_t row, std::size_t first, std::size_t count, float* sums) noexcept {
  const auto* units = reinterpret_cast<const typename Reader::Unit*>(a.panel);
  for (std::size_t c = 0; c < a.cols; ++c) {
    const float w = Reader::read(units[c], row);
    for (std::size_t i = 0; i < count; ++i) sums[i] = std::fmaf(w, a.exact[first + i][c], sums[i]);
  }
}

template <PanelFormat kFormat>
void panel_matmul(const PanelArgs& a) noexcept {
  using Reader = PanelReader<kFormat>;
  for (std::size_t first = 0; first < a.rows; first += kTile) {
    const std::size_t count = a.rows - first < kTile ? a.rows - first : kTile;
    for (std::size_t row = 0; row < a.live; ++row) {
      float sums[kTile] = {};
      if constexpr (quantises_input(kFormat)) {
        quantised_tile<Reader>(a, row, first, count, sums);
      } else {
        exact_tile<Reader>(a, row, first, count, sums);
      }
      for (std::size_t i = 0; i < count; ++i) {
        float& out = a.out[first + i][a.out_first + row];
        out = a.adds ? out + sums[i] : sums[i];
      }
    }
  }
}

void silu_multiply(float* out, const float* gate, const float* up, std::size_t count) noexcept {
  for (std::size_t i = 0; i < count; ++i) out[i] = silu(gate[i]) * up[i];
}

template <std::size_t... kFormats>
void add_formats(MatmulTable& table, std::index_sequence<kFormats...>) noexcept {
  ((table.panel_matmul[kFormats] = panel_matmul<static_cast<PanelFormat>(kFormats)>), ...);
}

}  // namespace

void add_reference_matmul(MatmulTable& table) noexcept {
  table.quantise_rows = quantise_rows;
  table.silu_multiply = silu_multiply;
  add_formats(table, std::make_index_sequence<kPanelFormats>());
}

}  // namespace qwen35::cpu
