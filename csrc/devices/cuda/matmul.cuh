// Products of up to kRows rows with packed panels, and what is built of them: matmul, swiglu, and the products with
// chosen experts.
//
// A block of threads takes one panel: a lane is a row of weights, and each of its eight warps takes an eighth of the
// columns, a strand. Strands are summed in order, block after block, and then added in order; the tensor-core kernels
// (gemm.cuh) do the same, so that a row's result has the same bits in any company.
#pragma once

#include "devices/cuda/math.cuh"
#include "devices/cuda/panels.cuh"
#include "devices/cuda/rms_norm.cuh"
#include "devices/cuda/route.cuh"
#include "devices/cuda/tile.cuh"

namespace qwen35::cuda {

struct Strand {
  unsigned first;
  unsigned last;
};
// Units [first, last) of `units`.
DEVICE Strand strand(unsigned units, unsigned number) {
  const unsigned length = (units + kStrands - 1) / kStrands;
  const unsigned first = number * length < units ? number * length : units;
  return {first, first + length < units ? first + length : units};
}

// Rows [first, first + count) of the input, count <= kRows.
struct Input {
  Rows x;
  QuantisedRows quantised;
  unsigned first;
  unsigned count;

  DEVICE unsigned row(unsigned n) const { return first + (n < count ? n : count - 1); }
};

template <Format kFormat, unsigned kRows>
DEVICE void add_quantised(float (&sum)[kRows], const Byte* panel, unsigned cols, const Input& input, Strand blocks) {
  using P = Panel<kFormat>;
  const unsigned lane = lane_id(), all = cols / kBlockColumns;
  for (unsigned block = blocks.first; block < blocks.last; ++block) {
    const Byte* codes = P::codes(P::unit(panel, block), block);
    const uint4 low = load16(codes + lane * 16);
    uint4 second{};
    if (P::kIsWide) second = load16(codes + kNibblePlane + lane * 16);
    RawWord raw{};
    P::add_high(raw, codes, lane);
    const Scales scales = P::scales(panel, block, lane);
    const unsigned low_words[4] = {low.x, low.y, low.z, low.w};
    const unsigned second_words[4] = {second.x, second.y, second.z, second.w};
    Words w[4];
    for (unsigned t = 0; t < 4; ++t) {
      raw.low = low_words[t];
      raw.second = second_words[t];
      w[t] = P::words(raw, t);
    }
    for (unsigned n = 0; n < kRows; ++n) {
      const unsigned long long at = input.row(n) * static_cast<unsigned long long>(all) + block;
      const uint4 a = load16(input.quantised.codes + at * kBlockColumns);
      const uint4 b = load16(input.quantised.codes + at * kBlockColumns + 16);
      const unsigned xs[8] = {a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w};
      const BlockSums sums = input.quantised.blocks[at];
      int lower = kWhole - P::kZero * (P::kHasHalves ? sums.first : sums.sum);
      int upper = kWhole - P::kZero * (sums.sum - sums.first);
      for (unsigned t = 0; t < 4; ++t) {
        lower = __dp4a(w[t].first, static_cast<int>(xs[t]), lower);
        int& rest = P::kHasHalves ? upper : lower;
        rest = __dp4a(w[t].second, static_cast<int>(xs[4 + t]), rest);
      }
      sum[n] = P::add(sum[n], scales, {whole(lower), whole(upper)}, sums);
    }
  }
}

template <Format kFormat, unsigned kRows>
DEVICE void add_exact(float (&sum)[kRows], const Byte* panel, unsigned cols, const Input& input, Strand units) {
  constexpr unsigned kColumns = unit_layout(kFormat).columns;
  for (unsigned unit = units.first; unit < units.last; ++unit) {
    const uint4 raw = load16(panel + static_cast<unsigned long long>(unit) * kNibblePlane + lane_id() * 16);
    const unsigned column = unit * kColumns;
    for (unsigned i = 0; i < kColumns; ++i) {
      if (column + i >= cols) break;
      const float w = float_column<kFormat>(raw, i);
      for (unsigned n = 0; n < kRows; ++n) {
        sum[n] = fmaf(w, input.x.data[input.row(n) * input.x.stride + column + i], sum[n]);
      }
    }
  }
}

template <unsigned kRows>
using Parts = float[kStrands][kRows][kWarp];

// The same for up to eight rows on the tensor cores: parts[strand][n][row] of this warp's strand.
template <Format kFormat>
DEVICE void add_eight(Parts<kTileTokens>& parts, const Byte* panel, unsigned cols, const Input& input, Strand blocks) {
  const unsigned all = cols / kBlockColumns, g = lane_id() / 4, t = lane_id() % 4;
  float sum[2][4] = {};
  const signed char* codes = input.quantised.codes + input.row(g) * static_cast<unsigned long long>(cols) + 4 * t;
  const BlockSums* sums[2];
  for (unsigned j = 0; j < 2; ++j) {
    sums[j] = input.quantised.blocks + input.row(2 * t + j) * static_cast<unsigned long long>(all);
  }
  for (unsigned block = blocks.first; block < blocks.last; ++block) {
    const unsigned x[2] = {load4(codes + block * kBlockColumns), load4(codes + block * kBlockColumns + 16)};
    const BlockSums of[2] = {sums[0][block], sums[1][block]};
    for (unsigned tile = 0; tile < 2; ++tile) {
      WeightTile<kFormat>(panel, block, tile * kTileRows).multiply(sum[tile], x, of);
    }
  }
  for (unsigned tile = 0; tile < 2; ++tile) {
    for (unsigned i = 0; i < 4; ++i) {
      parts[warp_id()][2 * t + i % 2][tile * kTileRows + g + 8 * (i / 2)] = sum[tile][i];
    }
  }
}

// parts[strand][n][row] of one panel. The threads do not meet.
template <unsigned kRows>
DEVICE void multiply_panel(Parts<kRows>& parts, const WeightView& w, unsigned long long panel, const Input& input) {
  const Byte* at = w.panels + panel * w.panel_bytes;
  with_format(w.format, [&](auto tag) {
    constexpr Format kFormat = decltype(tag)::kValue;
    constexpr unsigned kColumns = is_float(kFormat) ? unit_layout(kFormat).columns : kBlockColumns;
    const Strand units = strand((w.cols + kColumns - 1) / kColumns, warp_id());
    if constexpr (!is_float(kFormat) && kRows == kTileTokens) {
      add_eight<kFormat>(parts, at, w.cols, input, units);
    } else {
      float sum[kRows] = {};
      if constexpr (is_float(kFormat)) {
        add_exact<kFormat>(sum, at, w.cols, input, units);
      } else {
        add_quantised<kFormat>(sum, at, w.cols, input, units);
      }
      for (unsigned n = 0; n < kRows; ++n) parts[warp_id()][n][lane_id()] = sum[n];
    }
  });
}

// Asks for the start of this warp's strand of a panel, before there is an input to multiply.
DEVICE void prefetch_panel(const WeightView& w, unsigned long long panel) {
  constexpr unsigned kLine = 128;  // bytes, one a lane
  const unsigned long long at = w.panel_bytes / kStrands * warp_id() + lane_id() * kLine;
  if (at < w.panel_bytes) prefetch_weights(w.panels + panel * w.panel_bytes + at);
}

template <unsigned kRows>
DEVICE float total(const Parts<kRows>& parts, unsigned n, unsigned row) {
  float sum = parts[0][n][row];
  for (unsigned s = 1; s < kStrands; ++s) sum += parts[s][n][row];
  return sum;
}

// Which rows of its matrix a panel holds.
struct PanelRows {
  unsigned long long first;
  unsigned live;
};
DEVICE PanelRows rows_of_panel(const WeightView& w, unsigned panel) {
  const unsigned group = panel / w.group_panels, at = panel % w.group_panels * kPanelRows;
  const unsigned left = w.group_rows - at;
  return {group * static_cast<unsigned long long>(w.group_rows) + at, left < kPanelRows ? left : kPanelRows};
}

DEVICE Input input_of(const Rows& x, const QuantisedRows& quantised, unsigned most) {
  const unsigned first = blockIdx.y * most, left = x.rows - first;
  return {x, quantised, first, left < most ? left : most};
}

// The norm of the one row of input, in shared memory; the first block of threads writes it to memory too.
static_assert(kMatmulThreads == kNormThreads, "so that a norm has the bits of rms_norm");
DEVICE Input normed_input(const NormArgs& norm) {
  auto* out = reinterpret_cast<float*>(shared_memory());
  auto* codes = reinterpret_cast<signed char*>(out + norm.cols);
  const QuantisedRows to{codes, reinterpret_cast<BlockSums*>(codes + norm.cols)};
  norm_row(out, norm.x, norm.weight, norm.cols, norm.eps, to, 0);
  __syncthreads();
  for (unsigned i = threadIdx.x; blockIdx.x == 0 && i < norm.cols; i += kNormThreads) {
    norm.out[i] = out[i];
    norm.quantised.codes[i] = to.codes[i];
    if (i < norm.cols / kBlockColumns) norm.quantised.blocks[i] = to.blocks[i];
  }
  return {{out, norm.cols, 1, norm.cols}, to, 0, 1};
}

// A panel of one of several products, by its number among those of all.
struct ProductPanel {
  const Product& product;
  unsigned panel;
};
DEVICE ProductPanel panel_of(const MatmulArgs& args, unsigned panel) {
  unsigned i = 0;
  while (panel >= args.products[i].w.groups * args.products[i].w.group_panels) {
    panel -= args.products[i].w.groups * args.products[i].w.group_panels;
    ++i;
  }
  return {args.products[i], panel};
}

// A row that comes alone: by constants, which take no registers through the loop over panels.
DEVICE Input only_row(const MatmulArgs& args) {
  if (args.norm.x != nullptr) return normed_input(args.norm);
  return {args.x, args.quantised, 0, 1};
}

// Its products with the rows of the input, into their places.
template <unsigned kRows>
DEVICE void multiply_into(Parts<kRows>& parts, const ProductPanel& at, const Input& input, bool adds) {
  const Product& p = at.product;
  multiply_panel<kRows>(parts, p.w, at.panel, input);
  __syncthreads();
  const PanelRows rows = rows_of_panel(p.w, at.panel);
  for (unsigned n = warp_id(); n < input.count; n += kStrands) {
    if (lane_id() >= rows.live) continue;
    float& out = p.out[(input.first + n) * p.out_stride + rows.first + lane_id()];
    const float sum = total<kRows>(parts, n, lane_id());
    out = adds ? out + sum : sum;
  }
}

// Grid: (blocks of threads, rows / kRows). A block takes a panel or, where it takes a norm first, maybe several.
template <unsigned kRows>
DEVICE void matmul_rows(const MatmulArgs& args) {
  SHARED(Parts<kRows>, parts);
  const ProductPanel first = panel_of(args, blockIdx.x);
  prefetch_panel(first.product.w, first.panel);
  await_predecessor();
  const Input input = kRows == 1 ? only_row(args) : input_of(args.x, args.quantised, kRows);
  for (unsigned panel = blockIdx.x;;) {
    multiply_into<kRows>(parts, panel_of(args, panel), input, args.adds != 0);
    panel += gridDim.x;
    if (kRows > 1 || panel >= args.panels) break;
    __syncthreads();  // the parts of the last panel have been read
  }
  SHARED(unsigned, is_last);
  if (args.route.top_k == 0 || !arrives_last(args.arrived, gridDim.x, is_last)) return;
  for (unsigned row = warp_id(); row < args.route.logits.rows; row += kStrands) choose_experts(args.route, row);
}

KERNEL(matmul_1, kMatmulThreads)(MatmulArgs args) { matmul_rows<1>(args); }
KERNEL(matmul_2, kMatmulThreads)(MatmulArgs args) { matmul_rows<2>(args); }
KERNEL(matmul_8, kMatmulThreads)(MatmulArgs args) { matmul_rows<8>(args); }

// Writes 32 neighbouring results of row `row`, one a lane, and their codes.
DEVICE void put_block(const Rows& out, const QuantisedRows& to, unsigned long long row, unsigned long long column,
                      float value, unsigned live) {
  if (lane_id() < live) out.data[row * out.stride + column + lane_id()] = value;
  if (to.codes == nullptr) return;
  quantise_one(to, row * (out.cols / kBlockColumns) + column / kBlockColumns, value, true);
}

// What a row of the shared expert is multiplied with: 1 where it has no gate.
DEVICE float openness(const Rows& open, unsigned long long row) {
  return open.data == nullptr ? 1.0f : sigmoid(open.data[row * open.stride]);
}

// Grid: (panels, rows / kRows).
template <unsigned kRows>
DEVICE void swiglu_rows(const SwigluArgs& args) {
  SHARED(Parts<kRows>, gate);
  SHARED(Parts<kRows>, up);
  prefetch_panel(args.gate, blockIdx.x);
  prefetch_panel(args.up, blockIdx.x);
  await_predecessor();
  const Input input =
      kRows == 1 && args.norm.x != nullptr ? normed_input(args.norm) : input_of(args.x, args.quantised, kRows);
  multiply_panel<kRows>(gate, args.gate, blockIdx.x, input);
  multiply_panel<kRows>(up, args.up, blockIdx.x, input);
  __syncthreads();
  const PanelRows rows = rows_of_panel(args.gate, blockIdx.x);
  for (unsigned n = warp_id(); n < input.count; n += kStrands) {
    const float value =
        silu(total<kRows>(gate, n, lane_id())) * total<kRows>(up, n, lane_id()) * openness(args.open, input.first + n);
    put_block(args.out, args.to, input.first + n, rows.first, value, rows.live);
  }
}

KERNEL(swiglu_1, kMatmulThreads)(SwigluArgs args) { swiglu_rows<1>(args); }
KERNEL(swiglu_2, kMatmulThreads)(SwigluArgs args) { swiglu_rows<2>(args); }
KERNEL(swiglu_8, kMatmulThreads)(SwigluArgs args) { swiglu_rows<8>(args); }

}  // namespace qwen35::cuda
