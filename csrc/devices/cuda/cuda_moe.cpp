// Products with chosen experts: pair by pair for few rows, sorted by expert for many. Both give the same bits.
#include <string>

#include "base/error.h"
#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/expert_panels.h"

namespace qwen35::cuda {
namespace {

// Where part `part` of `parts` matrices of `part_rows` rows per expert lies in one weight.
ExpertPanels expert_panels(const char* name, const Weight& weight, std::size_t experts, std::size_t parts,
                           std::size_t part, std::size_t part_rows) {
  const WeightView& w = packed(weight).view();
  const std::size_t count =
      expert_part_panels(name, {weight.rows(), w.groups, w.group_rows, kPanelRows}, experts, parts, part_rows);
  return {static_cast<unsigned>(parts * count), static_cast<unsigned>(part * count)};
}

void check_experts(const char* name, std::uint32_t experts, std::uint32_t top_k) {
  if (top_k <= kMostChosen && experts <= kMostExperts) return;
  throw InputError(std::string(name) + ": " + std::to_string(top_k) + " of " + std::to_string(experts) +
                   " experts, expected at most " + std::to_string(kMostChosen) + " of " + std::to_string(kMostExperts) +
                   " on this device");
}

bool is_quantised(const Weight& w) { return !is_float(packed(w).view().format); }

// What the gather of one layer's experts needs to know of their weights.
struct GatherWeights {
  const Weight& gate;
  const Weight& up;  // the same matrix where it holds both
  std::size_t width;
  ExpertPanels gate_panels;
  ExpertPanels up_panels;

  explicit GatherWeights(const ExpertWeights& experts)
      : gate(*experts.gate), up(experts.up == nullptr ? gate : *experts.up) {
    const std::size_t parts = experts.up == nullptr ? 2 : 1;
    width = gate.rows() / experts.count / parts;
    gate_panels = expert_panels("moe_gather", gate, experts.count, parts, 0, width);
    up_panels = expert_panels("moe_gather", up, experts.count, parts, parts - 1, width);
  }
};

// Pairs (row, slot) from which rows are sorted by expert.
constexpr std::size_t kSortedRows = 2 * kFewRows + 1;

std::size_t most_tiles(std::size_t pairs, std::size_t experts) {
  return pairs / kGemmTokens + std::min(pairs, experts);
}

}  // namespace

std::size_t sorted_bytes(std::size_t pairs, std::size_t experts) {
  return pairs * sizeof(int) + most_tiles(pairs, experts) * sizeof(ExpertTile) + sizeof(unsigned);
}

ExpertOrder CudaBackend::sort_by_expert(const Routes& routes, std::size_t rows, std::uint32_t experts) {
  const std::size_t pairs = rows * routes.top_k, tiles = most_tiles(pairs, experts);
  auto* at = sorted_.take<std::byte>(*memory_, sorted_bytes(pairs, experts));
  const ExpertOrder order{reinterpret_cast<int*>(at), reinterpret_cast<ExpertTile*>(at + pairs * sizeof(int)),
                          reinterpret_cast<unsigned*>(at + pairs * sizeof(int) + tiles * sizeof(ExpertTile))};
  launch<Kernel::moe_sort>({}, {on_card(routes.experts), order, static_cast<unsigned>(pairs), experts});
  return order;
}

void CudaBackend::gather_sorted(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) {
  const GatherWeights w(experts);
  const QuantisedRows x = quantised(h);
  memo_.forget(out.routed);
  GemmGatherArgs args{.routed = rows_of(out.routed),
                      .gate = packed(w.gate).view(),
                      .up = packed(w.up).view(),
                      .gate_panels = w.gate_panels,
                      .up_panels = w.up_panels,
                      .x = x,
                      .to = out.routed.cols == w.width ? quantised_place(out.routed) : QuantisedRows{},
                      .order = sort_by_expert(routes, h.rows, experts.count),
                      .top_k = routes.top_k,
                      .padding = 0};
  args.routed.cols = static_cast<unsigned>(w.width);
  const std::size_t tiles = most_tiles(h.rows * routes.top_k, experts.count);
  launch<Kernel::gemm_gather>({ceil_div(w.width, 2 * kPanelRows), tiles}, args);
  if (experts.shared) open_swiglu(out.shared, h, *experts.shared->gate, *experts.shared->up, routes.shared_gate);
}

void CudaBackend::do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) {
  if (h.rows == 0) return;
  check_experts("moe_gather", experts.count, routes.top_k);
  const GatherWeights w(experts);
  const WeightView &gate = packed(w.gate).view(), &up = packed(w.up).view();
  if (h.rows >= kSortedRows && gate.format == up.format && !is_float(gate.format)) {
    return gather_sorted(out, h, experts, routes);
  }
  MoeGatherArgs args{};
  args.routed = rows_of(out.routed);
  args.routed.cols = static_cast<unsigned>(w.width);
  args.gate = gate;
  args.up = up;
  args.gate_panels = w.gate_panels;
  args.up_panels = w.up_panels;
  args.experts = on_card(routes.experts);
  args.top_k = routes.top_k;
  args.x = rows_of(h);
  bool quantises = is_quantised(w.gate) || is_quantised(w.up);
  std::size_t shared_panels = 0;
  if (experts.shared) {
    args.has_shared = 1;
    args.shared = rows_of(out.shared);
    args.shared_gate = packed(*experts.shared->gate).view();
    args.shared_up = packed(*experts.shared->up).view();
    if (routes.shared_gate.rows > 0) args.shared_open = rows_of(routes.shared_gate);
    quantises = quantises || is_quantised(*experts.shared->gate) || is_quantised(*experts.shared->up);
    shared_panels = ceil_div(out.shared.cols, kPanelRows);
  }
  settle_norm();
  if (quantises) args.quantised = quantised(h);
  memo_.forget(out.routed);
  if (experts.shared) memo_.forget(out.shared);
  if (out.routed.cols == w.width) args.to = quantised_place(out.routed);
  if (experts.shared) args.shared_to = quantised_place(out.shared);
  launch<Kernel::moe_gather>({ceil_div(w.width, kPanelRows) + shared_panels, h.rows * routes.top_k}, args);
}

void CudaBackend::combine_sorted(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) {
  const std::size_t pairs = x.rows * routes.top_k;
  auto* products = products_.take<float>(*memory_, pairs * x.cols);
  const QuantisedRows routed = quantised(h.routed);
  launch<Kernel::gemm_combine>({ceil_div(x.cols, 4 * kPanelRows), most_tiles(pairs, experts.count)},
                               {.products = products,
                                .down = packed(*experts.down).view(),
                                .down_panels = expert_panels("moe_combine", *experts.down, experts.count, 1, 0, x.cols),
                                .routed = routed,
                                .order = sort_by_expert(routes, x.rows, experts.count),
                                .cols = static_cast<unsigned>(x.cols),
                                .padding = 0});
  launch<Kernel::moe_reduce>({ceil_div(x.cols, kRowThreads), x.rows},
                             {rows_of(x), products, on_card(routes.weights), routes.top_k, 0});
  memo_.forget(x);
  if (experts.shared) do_matmul_add(x, h.shared, *experts.shared->down);
}

void CudaBackend::do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) {
  if (x.rows == 0) return;
  check_experts("moe_combine", experts.count, routes.top_k);
  if (x.rows >= kSortedRows && is_quantised(*experts.down)) return combine_sorted(x, h, experts, routes);
  MoeCombineArgs args{};
  args.x = rows_of(x);
  args.routed = rows_of(h.routed);
  args.down = packed(*experts.down).view();
  args.down_panels = expert_panels("moe_combine", *experts.down, experts.count, 1, 0, x.cols);
  args.experts = on_card(routes.experts);
  args.weights = on_card(routes.weights);
  args.top_k = routes.top_k;
  if (is_quantised(*experts.down)) args.quantised = quantised(h.routed);
  if (experts.shared) {
    args.has_shared = 1;
    args.shared = rows_of(h.shared);
    args.shared_down = packed(*experts.shared->down).view();
    if (is_quantised(*experts.shared->down)) args.shared_quantised = quantised(h.shared);
  }
  memo_.forget(x);
  launch<Kernel::moe_combine>({ceil_div(x.cols, kPanelRows), x.rows}, args);
}

}  // namespace qwen35::cuda
