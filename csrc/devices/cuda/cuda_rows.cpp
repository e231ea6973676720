// The operations on whole rows.
#include <algorithm>

#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/state_pool.h"

namespace qwen35::cuda {

void CudaBackend::do_embed(Tensor out, const Weight& table) {
  memo_.forget(out);
  context_->launch<Kernel::embed>({out.rows}, {rows_of(out), packed(table).view(), step_.view()});
}

void CudaBackend::do_rms_norm(Tensor out, Tensor x, DevicePtr<const float> weight, float eps) {
  memo_.forget(out);
  context_->launch<Kernel::rms_norm>({x.rows},
                                     {rows_of(out), rows_of(x), on_card(weight), quantised_place(out), eps, 0});
}

void CudaBackend::do_route(const Routes& out, Tensor logits) {
  context_->launch<Kernel::route>({logits.rows},
                                  {rows_of(logits), on_card(out.experts), on_card(out.weights), out.top_k, 0});
}

void CudaBackend::do_sigmoid_gate(Tensor h, Tensor gate) {
  memo_.forget(h);
  context_->launch<Kernel::sigmoid_gate>({h.rows}, {rows_of(h), rows_of(gate), quantised_place(h)});
}

void CudaBackend::do_take_rows(Tensor out, Tensor x) {
  memo_.forget(out);
  context_->launch<Kernel::take_rows>({out.rows}, {rows_of(out), rows_of(x), step_.view()});
}

void CudaBackend::do_previous_rows(Tensor out, Tensor x) {
  memo_.forget(out);
  step_.places().check_hidden(x.cols);
  if (step_.view().segment_count == 0) return;
  const auto& pool = static_cast<const CudaStatePool&>(*step_.places().state(0).owner);
  context_->launch<Kernel::previous_rows>(
      {ceil_div(x.cols, kRowThreads), step_.view().segment_count},
      {rows_of(out), rows_of(x), step_.view(), pool.hidden_at(), static_cast<unsigned>(pool.hidden_rows()), 0});
}

// The row comes to the host, which edits and ranks it.
std::size_t CudaBackend::do_top_k(std::span<Candidate> out, Tensor logits, const LogitEdits& edits) {
  logits_.resize(logits.cols);
  download(reinterpret_cast<std::byte*>(logits_.data()), logits.data.as<const std::byte>(),
           logits.cols * sizeof(float));
  const auto best = top_k_.select(logits_, out.size(), edits);
  std::ranges::copy(best, out.begin());
  return best.size();
}

}  // namespace qwen35::cuda
