// Dense products, and packing.
#include <algorithm>
#include <array>
#include <atomic>

#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"

namespace qwen35::cuda {
namespace {

// Of the two buffers through which packed panels go to the card.
constexpr std::size_t kStagingBytes = std::size_t{32} << 20;

// Rows that one block of threads takes together.
template <class Args, class Launch>
void launch_rows(std::size_t rows, std::size_t panels, const Args& args, const Launch& launch) {
  constexpr std::size_t kMost = 8;
  launch(std::min(std::bit_ceil(rows), kMost), Grid{panels, ceil_div(rows, kMost)}, args);
}

}  // namespace

QuantisedRows CudaBackend::quantised(Tensor x) {
  QuantisedRows found = memo_.find(x);
  if (found.codes != nullptr || x.rows == 0) return found;
  found = memo_.place(*memory_, x);
  context_->launch<Kernel::quantise>({x.rows}, {rows_of(x), found});
  return found;
}

QuantisedRows CudaBackend::quantised_place(Tensor out) { return memo_.place(*memory_, out); }

void CudaBackend::multiply(Tensor x, std::span<const Projection> projections, bool adds) {
  if (x.rows == 0) return;
  for (; !projections.empty();
       projections = projections.subspan(std::min<std::size_t>(kMostProducts, projections.size()))) {
    const auto some = projections.first(std::min<std::size_t>(kMostProducts, projections.size()));
    MatmulArgs args{};
    args.count = static_cast<unsigned>(some.size());
    args.adds = adds ? 1 : 0;
    args.x = rows_of(x);
    std::size_t panels = 0;
    bool quantises = false;
    for (std::size_t i = 0; i < some.size(); ++i) {
      const CudaWeight& w = packed(*some[i].w);
      memo_.forget(some[i].out);
      args.products[i] = {w.view(), on_card(some[i].out.data), some[i].out.stride};
      panels += w.panels();
      quantises = quantises || !is_float(w.view().format);
    }
    if (quantises) args.quantised = quantised(x);
    launch_rows(x.rows, panels, args, [this](std::size_t most, Grid grid, const MatmulArgs& a) {
      if (most == 1) return context_->launch<Kernel::matmul_1>(grid, a);
      if (most == 2) return context_->launch<Kernel::matmul_2>(grid, a);
      if (most == 4) return context_->launch<Kernel::matmul_4>(grid, a);
      context_->launch<Kernel::matmul_8>(grid, a);
    });
  }
}

void CudaBackend::do_matmul(Tensor x, std::span<const Projection> projections) { multiply(x, projections, false); }

void CudaBackend::do_matmul_add(Tensor x, Tensor h, const Weight& w) {
  const Projection projection{x, &w};
  multiply(h, {&projection, 1}, true);
}

void CudaBackend::do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) {
  if (h.rows == 0) return;
  const WeightView &g = packed(gate).view(), &u = packed(up).view();
  SwigluArgs args{.out = rows_of(out), .gate = g, .up = u, .x = rows_of(h), .quantised = {}, .to = {}};
  if (!is_float(g.format) || !is_float(u.format)) args.quantised = quantised(h);
  memo_.forget(out);
  args.to = out.cols == gate.rows() ? quantised_place(out) : QuantisedRows{};
  launch_rows(h.rows, packed(gate).panels(), args, [this](std::size_t most, Grid grid, const SwigluArgs& a) {
    if (most == 1) return context_->launch<Kernel::swiglu_1>(grid, a);
    if (most == 2) return context_->launch<Kernel::swiglu_2>(grid, a);
    if (most == 4) return context_->launch<Kernel::swiglu_4>(grid, a);
    context_->launch<Kernel::swiglu_8>(grid, a);
  });
}

// Panels are packed by all threads of the host into one buffer while the other is on its way to the card.
std::unique_ptr<Weight> CudaBackend::pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) {
  auto weight = std::make_unique<CudaWeight>(source, groups, *memory_);
  const std::size_t panel = weight->view().panel_bytes, count = weight->panels();
  if (staging_ == nullptr) staging_ = std::make_unique<Staging>(kStagingBytes);
  std::size_t first = 0;
  while (first < count) {
    Staging::Half& half = staging_->next(panel);
    const std::size_t some = std::min(count - first, std::max<std::size_t>(1, half.bytes() / panel));
    workers_.each(some, [&](std::size_t begin, std::size_t end, unsigned) {
      for (std::size_t i = begin; i < end; ++i) pack_panel(half.data() + i * panel, *weight, source, first + i);
    });
    half.send(address(weight->view().panels) + first * panel, some * panel, context_->stream());
    if (consumed != nullptr) {
      const std::size_t from = weight->first_row(first);
      const std::size_t to = weight->first_row(first + some - 1) + weight->live(first + some - 1);
      consumed(source.data + from * source.row_bytes(), (to - from) * source.row_bytes());
    }
    first += some;
  }
  return weight;
}

}  // namespace qwen35::cuda
