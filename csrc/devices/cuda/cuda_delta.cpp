// Gated DeltaNet layers.
#include <algorithm>
#include <string>

#include "base/error.h"
#include "devices/cuda/cuda_backend.h"
#include "devices/cuda/state_pool.h"

namespace qwen35::cuda {

std::unique_ptr<StatePool> CudaBackend::state_pool(const StateSpec& spec) {
  return std::make_unique<CudaStatePool>(spec, context_, *memory_, slots_);
}

std::uint32_t CudaBackend::state_layout() const noexcept { return kStateVersion; }

void CudaBackend::do_gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b,
                                     const DeltaParameters& parameters, const DeltaShape& shape, float eps,
                                     std::uint32_t layer) {
  if (shape.key_width > kMostKeyWidth || shape.value_width > kMostValueWidth) {
    throw InputError("gated_delta_net: heads of " + std::to_string(shape.key_width) + " keys and " +
                     std::to_string(shape.value_width) + " values, expected at most " + std::to_string(kMostKeyWidth) +
                     " and " + std::to_string(kMostValueWidth) + " on this device");
  }
  step_.places().check_delta_net(shape, layer);
  memo_.forget(out);
  const StepView& step = step_.view();
  if (step.segment_count == 0) return;
  const auto& pool = static_cast<const CudaStatePool&>(*step_.places().state(0).owner.pool);
  const DeltaArgs args{.out = rows_of(out),
                       .qkv = rows_of(qkv),
                       .z = rows_of(z),
                       .a = rows_of(a),
                       .b = rows_of(b),
                       .conv = on_card(parameters.conv),
                       .ssm_a = on_card(parameters.ssm_a),
                       .dt_bias = on_card(parameters.dt_bias),
                       .norm = on_card(parameters.norm),
                       .quantised = quantised_place(out),
                       .layout = pool.layout(),
                       .step = step,
                       .shape = {shape.key_heads, shape.value_heads, shape.key_width, shape.value_width},
                       .layer = layer,
                       .eps = eps};
  const Grid grid{shape.value_heads, step.segment_count};
  launch<Kernel::gated_delta_net>(grid, args, 0, kStateLanes * shape.value_width);
  const auto is_long = [&](const StepSegment& s) { return s.count + 3 > pool.layout().window_rows; };
  if (std::ranges::any_of(step_.places().step().segments, is_long)) {
    launch<Kernel::gated_delta_window>(grid, args);
  }
}

}  // namespace qwen35::cuda
