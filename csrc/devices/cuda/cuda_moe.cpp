// Products with chosen experts.
#include "base/error.h"
#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"

namespace qwen35::cuda {
namespace {

// Where part `part` of `parts` matrices of `part_rows` rows per expert lies in one weight. Throws InputError where the
// panels of an expert's part are not its own.
ExpertPanels expert_panels(const char* name, const Weight& weight, std::size_t experts, std::size_t parts,
                           std::size_t part, std::size_t part_rows) {
  const WeightView& w = packed(weight).view();
  const std::size_t count = ceil_div(part_rows, kPanelRows);
  const bool fills = part_rows % kPanelRows == 0;
  const bool by_part = w.groups == experts * parts && w.group_rows == part_rows;
  const bool by_expert = w.groups == experts && w.group_rows == parts * part_rows && fills;
  const bool flat = w.groups == 1 && weight.rows() == experts * parts * part_rows && fills;
  if (by_part || by_expert || flat) return {static_cast<unsigned>(parts * count), static_cast<unsigned>(part * count)};
  throw InputError(std::string(name) + ": a weight of " + std::to_string(weight.rows()) + " rows in " +
                   std::to_string(w.groups) + " groups does not hold " + std::to_string(experts) + " experts of " +
                   std::to_string(parts) + " x " + std::to_string(part_rows) +
                   " rows. Pack it with one group per expert and part");
}

void check_chosen(const char* name, std::uint32_t top_k) {
  if (top_k <= kMostChosen) return;
  throw InputError(std::string(name) + ": num_experts_per_tok is " + std::to_string(top_k) + ", expected at most the " +
                   std::to_string(kMostChosen) + " of this device");
}

bool is_quantised(const Weight& w) { return !is_float(packed(w).view().format); }

}  // namespace

void CudaBackend::do_moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) {
  if (h.rows == 0) return;
  const bool in_one = experts.up == nullptr;
  const Weight& up = in_one ? *experts.gate : *experts.up;
  const std::size_t parts = in_one ? 2 : 1, width = experts.gate->rows() / experts.count / parts;
  check_chosen("moe_gather", routes.top_k);
  MoeGatherArgs args{};
  args.routed = rows_of(out.routed);
  args.routed.cols = static_cast<unsigned>(width);
  args.gate = packed(*experts.gate).view();
  args.up = packed(up).view();
  args.gate_panels = expert_panels("moe_gather", *experts.gate, experts.count, parts, 0, width);
  args.up_panels = expert_panels("moe_gather", up, experts.count, parts, parts - 1, width);
  args.experts = on_card(routes.experts);
  args.top_k = routes.top_k;
  args.x = rows_of(h);
  bool quantises = is_quantised(*experts.gate) || is_quantised(up);
  if (experts.shared) {
    args.has_shared = 1;
    args.shared = rows_of(out.shared);
    args.shared_gate = packed(*experts.shared->gate).view();
    args.shared_up = packed(*experts.shared->up).view();
    quantises = quantises || is_quantised(*experts.shared->gate) || is_quantised(*experts.shared->up);
  }
  if (quantises) args.quantised = quantised(h);
  memo_.forget(out.routed);
  if (out.routed.cols == width) args.to = quantised_place(out.routed);
  if (experts.shared) {
    memo_.forget(out.shared);
    args.shared_to = quantised_place(out.shared);
  }
  const std::size_t shared_panels = experts.shared ? ceil_div(out.shared.cols, kPanelRows) : 0;
  context_->launch<Kernel::moe_gather>({ceil_div(width, kPanelRows) + shared_panels, h.rows * routes.top_k}, args);
}

void CudaBackend::do_moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) {
  if (x.rows == 0) return;
  check_chosen("moe_combine", routes.top_k);
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
  context_->launch<Kernel::moe_combine>({ceil_div(x.cols, kPanelRows), x.rows}, args);
}

}  // namespace qwen35::cuda
