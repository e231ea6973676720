// Every operation of a backend: checked, timed when a profile is kept, and then the device's.
#include "backend/backend.h"

#include <algorithm>
#include <iterator>
#include <string_view>
#include <vector>

#include "backend/check.h"
#include "base/error.h"

namespace qwen35 {

void Backend::keep_profile(const Weight* head) {
  profile_ = std::make_unique<Profile>();
  head_ = head;
}

void Backend::check_layout(const char* operation, std::initializer_list<const Weight*> weights) const {
  for (const Weight* w : weights) {
    if (w != nullptr) check::layout(operation, *w, weight_layout());
  }
}

void Backend::check_layout(const char* operation, const ExpertWeights& experts) const {
  check_layout(operation, {experts.gate, experts.up, experts.down});
  if (experts.shared) check_layout(operation, {experts.shared->gate, experts.shared->up, experts.shared->down});
}

template <class Call>
void Backend::timed(Operation operation, Call&& call) {
  if (profile_ == nullptr) return call();
  const auto waited_before = waited();
  const auto begin = std::chrono::steady_clock::now();
  call();
  synchronize();  // what was only enqueued belongs to this operation
  profile_->add(operation, std::chrono::steady_clock::now() - begin, waited() - waited_before);
}

void Backend::show(Tensor x, std::initializer_list<const Weight*> weights) const {
  if (observer_ == nullptr) return;
  std::vector<const Weight*> present;
  std::ranges::copy_if(weights, std::back_inserter(present), [](const Weight* w) { return w != nullptr; });
  observer_->see(x, present);
}

const Step& Backend::step() const {
  if (step_ == nullptr) throw Error("an operation that reads the step was called outside of Backend::run");
  return *step_;
}

void Backend::reserve(const ModelShape& model, const Step& step) {
  check::step(step);
  if (step_ != nullptr) throw Error("Backend::reserve was called within a pass");
  do_reserve(model, step);
}

void Backend::run(const Step& step, const std::function<void()>& pass) {
  check::step(step);
  if (step_ != nullptr) throw Error("Backend::run was called within a pass");
  struct Current {
    const Step*& place;
    ~Current() { place = nullptr; }
  } const current{step_};
  step_ = &step;
  do_run(step, pass);
}

void Backend::embed(Tensor out, const Weight& table) {
  if (std::string_view(table.layout()) != table_layout()) check_layout("embed", {&table});
  check::embed(out, table, step());
  timed(Operation::kEmbed, [&] { do_embed(out, table); });
}

void Backend::rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) {
  check::rms_norm(out, x);
  timed(Operation::kRmsNorm, [&] { do_rms_norm(out, x, weight, eps); });
}

void Backend::matmul(Tensor x, std::span<const Projection> projections) {
  for (const Projection& p : projections) {
    check_layout("matmul", {p.w});
    check::matmul("matmul", p.out, x, *p.w);
  }
  if (observer_ != nullptr) {
    std::vector<const Weight*> weights;
    for (const Projection& p : projections) weights.push_back(p.w);
    observer_->see(x, weights);
  }
  const bool is_head = projections.size() == 1 && projections.front().w == head_;
  timed(is_head ? Operation::kHead : Operation::kMatmul, [&] { do_matmul(x, projections); });
}

void Backend::matmul_add(Tensor x, Tensor h, const Weight& w) {
  check_layout("matmul_add", {&w});
  check::matmul("matmul_add", x, h, w);
  show(h, {&w});
  timed(Operation::kMatmulAdd, [&] { do_matmul_add(x, h, w); });
}

void Backend::swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) {
  check_layout("swiglu", {&gate, &up});
  check::matmul("swiglu", out, h, gate);
  check::matmul("swiglu", out, h, up);
  show(h, {&gate, &up});
  timed(Operation::kSwiglu, [&] { do_swiglu(out, h, gate, up); });
}

void Backend::gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b, const DeltaParameters& parameters,
                              const DeltaShape& shape, float eps, std::uint32_t layer) {
  check::gated_delta_net(out, qkv, z, a, b, shape, step(), limits());
  timed(Operation::kGatedDeltaNet, [&] { do_gated_delta_net(out, qkv, z, a, b, parameters, shape, eps, layer); });
}

void Backend::norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps, const Rope& rope,
                               const AttentionShape& shape, std::uint32_t layer) {
  check::norm_rope_append(q_gate, k, v, rope, shape, step(), limits());
  timed(Operation::kNormRopeAppend, [&] { do_norm_rope_append(q_gate, k, v, norms, eps, rope, shape, layer); });
}

void Backend::attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) {
  check::attend(out, q_gate, shape, step(), limits());
  timed(Operation::kAttend, [&] { do_attend(out, q_gate, shape, layer); });
}

void Backend::route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) {
  check_layout("route", {weights.router, weights.shared_gate});
  check::route(out, logits, h, weights);
  timed(Operation::kRoute, [&] { do_route(out, logits, h, weights); });
}

void Backend::moe_gather(const ExpertActs& out, Tensor h, const ExpertWeights& experts, const Routes& routes) {
  check_layout("moe_gather", experts);
  check::moe_gather(out, h, experts, routes);
  show(h, {experts.gate, experts.up, experts.shared ? experts.shared->gate : nullptr,
           experts.shared ? experts.shared->up : nullptr});
  timed(Operation::kMoeGather, [&] { do_moe_gather(out, h, experts, routes); });
}

void Backend::moe_combine(Tensor x, const ExpertActs& h, const ExpertWeights& experts, const Routes& routes) {
  check_layout("moe_combine", experts);
  check::moe_combine(x, h, experts, routes.top_k);
  if (observer_ != nullptr) observer_->see_routed(h.routed, experts, routes);
  if (experts.shared) show(h.shared, {experts.shared->down});
  timed(Operation::kMoeCombine, [&] { do_moe_combine(x, h, experts, routes); });
}

void Backend::take_rows(Tensor out, Tensor x) {
  check::take_rows(out, x, step());
  timed(Operation::kTakeRows, [&] { do_take_rows(out, x); });
}

void Backend::previous_rows(Tensor out, Tensor x) {
  check::previous_rows(out, x, step());
  timed(Operation::kPreviousRows, [&] { do_previous_rows(out, x); });
}

void Backend::kept_rows(Tensor out) {
  check::kept_rows(out, step());
  timed(Operation::kKeptRows, [&] { do_kept_rows(out); });
}

std::size_t Backend::top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits, double* log_sum) {
  check::top_k(out.size(), logits, edits);
  std::size_t found = 0;
  timed(Operation::kTopK, [&] { found = do_top_k(out, logits, edits, log_sum); });
  return found;
}

}  // namespace qwen35
