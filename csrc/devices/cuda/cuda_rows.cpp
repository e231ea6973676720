// The operations on whole rows.
#include <algorithm>
#include <utility>

#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/state_pool.h"

namespace qwen35::cuda {
namespace {

// Of a row whose norm, with its codes, lies in the shared memory of a product's blocks.
constexpr std::size_t kMostNormedColumns = 8192;

}  // namespace

void CudaBackend::do_embed(Tensor out, const Weight& table) {
  memo_.forget(out);
  if (const auto* on_host = dynamic_cast<const HostTable*>(&table)) return embed_from_host(out, *on_host);
  launch<Kernel::embed>({out.rows}, {rows_of(out), packed(table).view(), step_.view()});
}

// Copies of the values behind what the pass has enqueued so far, as a rule nothing: no kernel, and nothing of a graph.
void CudaBackend::embed_from_host(Tensor out, const HostTable& table) {
  settle_norm();
  context_->flush();
  const Step& step = step_.places().step();
  const std::size_t row = out.cols * sizeof(float);
  for (std::size_t first = 0, some = 0; first < out.rows; first += some) {
    Staging::Half& half = staging_.next(row);
    some = out.stride == out.cols ? std::min(out.rows - first, half.bytes() / row) : 1;
    auto* values = reinterpret_cast<float*>(half.data());
    workers_.each(some, [&](std::size_t begin, std::size_t end, unsigned) {
      for (std::size_t i = begin; i < end; ++i) {
        table.decode_row(static_cast<std::size_t>(step.tokens[first + i]), values + i * out.cols);
      }
    });
    half.send(out.rows_from(first, some).data.address(), some * row, context_->stream());
  }
  table.require_intact();
  for (const InputRow& input : step.inputs) {
    context_->copy(out.rows_from(input.row, 1).data.address(), input.values.address(), row);
  }
}

void CudaBackend::do_rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) {
  settle_norm();
  memo_.forget(out);
  const QuantisedRows codes = quantised_place(out);
  if (x.rows == 1 && codes.codes != nullptr && x.cols <= kMostNormedColumns) {
    norm_ = {on_card(x.data), on_card(weight), on_card(out.data), codes, eps, static_cast<unsigned>(x.cols)};
    return;
  }
  launch<Kernel::rms_norm>({x.rows}, {rows_of(out), rows_of(x), on_card(weight), codes, eps, 0});
}

void CudaBackend::settle_norm() {
  if (norm_.x == nullptr) return;
  const NormArgs n = std::exchange(norm_, {});
  const Rows out{n.out, n.cols, 1, n.cols}, x{const_cast<float*>(n.x), n.cols, 1, n.cols};
  context_->launch<Kernel::rms_norm>({1}, {out, x, n.weight, n.quantised, n.eps, 0});
}

NormArgs CudaBackend::take_norm(Tensor x) {
  if (norm_.x == nullptr || norm_.out != on_card(x.data) || x.rows != 1 || x.cols != norm_.cols) return {};
  return std::exchange(norm_, {});
}

void CudaBackend::do_route(const Routes& out, Tensor logits, Tensor h, const RouterWeights& weights) {
  if (h.rows == 0) return;
  const Projection projections[] = {{logits, weights.router}, {out.shared_gate, weights.shared_gate}};
  const std::span products(projections, weights.shared_gate == nullptr ? 1 : 2);
  const RouteArgs args{rows_of(logits), on_card(out.experts), on_card(out.weights), out.top_k, 0};
  if (h.rows <= kFewRows) return multiply_few(h, products, false, args);
  multiply(h, products, false);
  launch<Kernel::route>({logits.rows}, args);
}

void CudaBackend::do_take_rows(Tensor out, Tensor x) {
  memo_.forget(out);
  launch<Kernel::take_rows>({out.rows}, {rows_of(out), rows_of(x), step_.view()});
}

// The pool of the hidden rows of this pass, all of whose segments have their state in it; null where there are none.
const CudaStatePool* CudaBackend::hidden_pool(std::size_t width) {
  step_.places().check_hidden(width);
  if (step_.view().segment_count == 0) return nullptr;
  return static_cast<const CudaStatePool*>(step_.places().state(0).owner.pool);
}

void CudaBackend::do_previous_rows(Tensor out, Tensor x) {
  memo_.forget(out);
  const CudaStatePool* pool = hidden_pool(x.cols);
  if (pool == nullptr) return;
  launch<Kernel::previous_rows>(
      {ceil_div(x.cols, kRowThreads), step_.view().segment_count},
      {rows_of(out), rows_of(x), step_.view(), pool->hidden_at(), static_cast<unsigned>(pool->hidden_rows()), 0});
}

void CudaBackend::do_kept_rows(Tensor out) {
  memo_.forget(out);
  const CudaStatePool* pool = hidden_pool(out.cols);
  if (pool == nullptr) return;
  launch<Kernel::kept_rows>(
      {ceil_div(out.cols, kRowThreads), step_.view().segment_count},
      {rows_of(out), step_.view(), pool->hidden_at(), static_cast<unsigned>(pool->hidden_rows()), 0});
}

}  // namespace qwen35::cuda
