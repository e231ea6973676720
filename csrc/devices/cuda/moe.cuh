// Products with the chosen experts of each row, and with the one that every row passes.
#pragma once

#include "devices/cuda/matmul.cuh"

namespace qwen35::cuda {

// Rows of one expert's matrix: panel p of expert e.
DEVICE unsigned long long expert_panel(const ExpertPanels& of, int expert, unsigned panel) {
  return static_cast<unsigned long long>(expert) * of.per_expert + of.offset + panel;
}

// silu(x gate^T) (x up^T) of one panel of rows for one row of the input, by warp 0.
DEVICE void gather_panel(const Rows& out, const QuantisedRows& to, unsigned row, unsigned panel, unsigned width,
                         const WeightView& gate, unsigned long long gate_panel, const WeightView& up,
                         unsigned long long up_panel, const Input& input, float open) {
  SHARED(Parts<1>, gates);
  SHARED(Parts<1>, ups);
  multiply_panel<1>(gates, gate, gate_panel, input);
  multiply_panel<1>(ups, up, up_panel, input);
  __syncthreads();
  if (warp_id() != 0) return;
  const unsigned left = width - panel * kPanelRows;
  const float value = silu(total<1>(gates, 0, lane_id())) * total<1>(ups, 0, lane_id()) * open;
  put_block(out, to, row, panel * kPanelRows, value, left < kPanelRows ? left : kPanelRows);
}

// Grid: (panels of an expert, then of the shared one; rows times K).
KERNEL(moe_gather, kMatmulThreads)(MoeGatherArgs args) {
  await_predecessor();
  const unsigned width = args.routed.cols, panels = (width + kPanelRows - 1) / kPanelRows;
  if (blockIdx.x < panels) {
    const unsigned pair = blockIdx.y, t = pair / args.top_k;
    const int expert = args.experts[pair];
    gather_panel(args.routed, args.to, pair, blockIdx.x, width, args.gate,
                 expert_panel(args.gate_panels, expert, blockIdx.x), args.up,
                 expert_panel(args.up_panels, expert, blockIdx.x), {args.x, args.quantised, t, 1}, 1.0f);
  } else if (blockIdx.y < args.x.rows) {
    const unsigned panel = blockIdx.x - panels;
    gather_panel(args.shared, args.shared_to, blockIdx.y, panel, args.shared.cols, args.shared_gate, panel,
                 args.shared_up, panel, {args.x, args.quantised, blockIdx.y, 1},
                 openness(args.shared_open, blockIdx.y));
  }
}

// Grid: (panels of x, rows). Slots are added in order, then the shared expert.
KERNEL(moe_combine, kMatmulThreads)(MoeCombineArgs args) {
  await_predecessor();
  SHARED(Parts<1>[kMostChosen + 1], parts);
  SHARED(float[kMostChosen + 1][kWarp], products);
  const unsigned t = blockIdx.y, panel = blockIdx.x;
  for (unsigned i = 0; i < args.top_k; ++i) {
    const unsigned pair = t * args.top_k + i;
    multiply_panel<1>(parts[i], args.down, expert_panel(args.down_panels, args.experts[pair], panel),
                      {args.routed, args.quantised, pair, 1});
  }
  if (args.has_shared) {
    multiply_panel<1>(parts[args.top_k], args.shared_down, panel, {args.shared, args.shared_quantised, t, 1});
  }
  __syncthreads();
  const unsigned count = args.top_k + (args.has_shared ? 1 : 0);
  for (unsigned i = warp_id(); i < count; i += kStrands) products[i][lane_id()] = total<1>(parts[i], 0, lane_id());
  __syncthreads();
  const unsigned column = panel * kPanelRows + lane_id();
  if (warp_id() != 0 || column >= args.x.cols) return;
  float sum = 0.0f;
  for (unsigned i = 0; i < args.top_k; ++i) sum += args.weights[t * args.top_k + i] * products[i][lane_id()];
  float& x = args.x.data[t * args.x.stride + column];
  x += sum;
  if (args.has_shared) x += products[args.top_k][lane_id()];
}

}  // namespace qwen35::cuda
