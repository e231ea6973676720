// Dense products, and packing.
#include <algorithm>
#include <array>
#include <utility>

#include "base/round_up.h"
#include "devices/cuda/cuda_backend.h"

namespace qwen35::cuda {
namespace {

// Rows from which the kernels that multiply kGemmTokens rows together are used: below, those whose warps share the
// columns of a panel fill the card better. Both give the same bits.
constexpr std::size_t kGemmRows = 2 * kFewRows + 1;

// Blocks of threads for each multiprocessor, which holds up to four of matmul_1 at a time, beyond which a block that
// takes a norm takes several panels: the head of a model has thousands of panels, and each norm would be read again.
constexpr std::size_t kNormedBlocks = 16;

// Of dynamic shared memory: the row in fp32, its codes and their sums.
std::size_t normed_bytes(const NormArgs& norm) {
  return norm.x == nullptr ? 0 : norm.cols * (sizeof(float) + 1) + norm.cols / kBlockColumns * sizeof(BlockSums);
}

}  // namespace

QuantisedRows CudaBackend::quantised(Tensor x) {
  QuantisedRows found = memo_.find(x);
  if (found.codes != nullptr || x.rows == 0) return found;
  found = memo_.place(*memory_, x);
  launch<Kernel::quantise>({x.rows}, {rows_of(x), found});
  return found;
}

QuantisedRows CudaBackend::quantised_place(Tensor out) { return memo_.place(*memory_, out); }

// By the kernel for as many rows as there are, up to kFewRows at a time.
template <Kernel kOne, Kernel kTwo, Kernel kEight>
void CudaBackend::launch_few(std::size_t rows, std::size_t blocks, const typename KernelOf<kOne>::Args& args) {
  const Grid grid{blocks, ceil_div(rows, kFewRows)};
  if (rows == 1) return launch<kOne>(grid, args, normed_bytes(args.norm));
  if (rows == 2) return launch<kTwo>(grid, args);
  launch<kEight>(grid, args);
}

// Up to kMostProducts products of few rows, or of weights of floats.
void CudaBackend::multiply_few(Tensor x, std::span<const Projection> projections, bool adds, const RouteArgs& route) {
  MatmulArgs args{};
  args.count = static_cast<unsigned>(projections.size());
  args.adds = adds ? 1 : 0;
  args.x = rows_of(x);
  std::size_t panels = 0;
  bool quantises = false;
  for (std::size_t i = 0; i < projections.size(); ++i) {
    const CudaWeight& w = packed(*projections[i].w);
    args.products[i] = {w.view(), on_card(projections[i].out.data), projections[i].out.stride};
    panels += w.panels();
    quantises = quantises || !is_float(w.view().format);
  }
  args.route = route;
  args.arrived = reinterpret_cast<unsigned*>(arrived_.get());
  args.norm = take_norm(x);
  if (quantises && args.norm.x == nullptr) args.quantised = quantised(x);
  for (const Projection& projection : projections) memo_.forget(projection.out);
  args.panels = static_cast<unsigned>(panels);
  std::size_t each = 1;  // of a block
  if (args.norm.x != nullptr) each = ceil_div(panels, kNormedBlocks * context_->multiprocessors());
  launch_few<Kernel::matmul_1, Kernel::matmul_2, Kernel::matmul_8>(x.rows, ceil_div(panels, each), args);
}

void CudaBackend::multiply_many(Tensor x, const Projection& projection, bool adds) {
  const CudaWeight& w = packed(*projection.w);
  const Product product{w.view(), on_card(projection.out.data), projection.out.stride};
  launch<Kernel::gemm>({ceil_div(w.panels(), kGemmThreads / kWarp / 2), ceil_div(x.rows, kGemmTokens)},
                       {product, rows_of(x), quantised(x), adds ? 1U : 0U, 0});
  memo_.forget(projection.out);
}

void CudaBackend::multiply(Tensor x, std::span<const Projection> projections, bool adds) {
  if (x.rows == 0) return;
  std::array<Projection, kMostProducts> few;
  std::size_t count = 0;
  const auto send_few = [&] {
    if (count > 0) multiply_few(x, {few.data(), count}, adds);
    count = 0;
  };
  for (const Projection& projection : projections) {
    if (x.rows >= kGemmRows && !is_float(packed(*projection.w).view().format)) {
      multiply_many(x, projection, adds);
    } else {
      few[count++] = projection;
      if (count == few.size()) send_few();
    }
  }
  send_few();
}

void CudaBackend::do_matmul(Tensor x, std::span<const Projection> projections) { multiply(x, projections, false); }

void CudaBackend::do_matmul_add(Tensor x, Tensor h, const Weight& w) {
  const Projection projection{x, &w};
  multiply(h, {&projection, 1}, true);
}

void CudaBackend::do_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up) {
  open_swiglu(out, h, gate, up, {});
}

void CudaBackend::open_swiglu(Tensor out, Tensor h, const Weight& gate, const Weight& up, Tensor open) {
  if (h.rows == 0) return;
  const WeightView &g = packed(gate).view(), &u = packed(up).view();
  SwigluArgs args{.out = rows_of(out),
                  .gate = g,
                  .up = u,
                  .x = rows_of(h),
                  .quantised = {},
                  .to = {},
                  .open = open.rows == 0 ? Rows{} : rows_of(open),
                  .norm = take_norm(h)};
  if ((!is_float(g.format) || !is_float(u.format)) && args.norm.x == nullptr) args.quantised = quantised(h);
  memo_.forget(out);
  if (out.cols == gate.rows()) args.to = quantised_place(out);
  const std::size_t panels = packed(gate).panels();
  if (h.rows >= kGemmRows && g.format == u.format && !is_float(g.format) && g.groups == 1) {
    return launch<Kernel::gemm_swiglu>({ceil_div(panels, 2), ceil_div(h.rows, kGemmTokens)}, args);
  }
  launch_few<Kernel::swiglu_1, Kernel::swiglu_2, Kernel::swiglu_8>(h.rows, panels, args);
}

// Panels are packed by all threads of the host into one buffer while the other is on its way to the card.
std::unique_ptr<Weight> CudaBackend::pack(const MatrixView& source, std::size_t groups, const Consumed& consumed) {
  auto weight = std::make_unique<CudaWeight>(source, groups, *memory_);
  const std::size_t panel = weight->view().panel_bytes, count = weight->panels();
  std::size_t first = 0;
  while (first < count) {
    Staging::Half& half = staging_.next(panel);
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

std::unique_ptr<Weight> CudaBackend::view(const Weight& w, std::size_t first, std::size_t rows) const {
  return std::make_unique<CudaWeight>(packed(w), first, rows);
}

std::unique_ptr<Weight> CudaBackend::pack_table(const MatrixView& source, std::shared_ptr<const Mapping> mapping,
                                                const Consumed& consumed) {
  const bool copies = mapping == nullptr;
  auto table = std::make_unique<HostTable>(source, std::move(mapping));
  if (copies && consumed != nullptr) consumed(source.data, source.bytes());
  return table;
}

}  // namespace qwen35::cuda
