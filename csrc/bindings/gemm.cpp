// _core.kernels: the solver's matrix product on each instruction set, and the second moments made with it.
#include <pybind11/numpy.h>

#include <algorithm>
#include <string>

#include "base/error.h"
#include "base/workers.h"
#include "bindings/bindings.h"
#include "bindings/kernels.h"
#include "quantise/gemm.h"
#include "quantise/gram.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using Floats = py::array_t<float>;

const GemmKernels& named(const std::string& set) {
  for (const GemmKernels& kernels : gemm_kernels()) {
    if (set == kernels.name) return kernels;
  }
  throw InputError("no set of gemm kernels '" + set + "' here; gemm_sets() lists them");
}

void check_matrix(const Floats& x, bool rows_are_contiguous) {
  if (x.ndim() != 2) throw InputError("expected a two-dimensional fp32 array");
  if (rows_are_contiguous && x.strides(1) != sizeof(float)) {
    throw InputError("expected a fp32 array whose last axis is contiguous");
  }
}

std::size_t extent(const Floats& x, int axis) { return static_cast<std::size_t>(x.shape(axis)); }
std::size_t stride(const Floats& x, int axis) { return static_cast<std::size_t>(x.strides(axis)) / sizeof(float); }
Strided strided(const Floats& x) { return {x.data(), stride(x, 0), stride(x, 1)}; }

void gemm(const std::string& set, Floats c, const Floats& a, const Floats& b, bool subtract) {
  check_matrix(c, true);
  check_matrix(a, false);
  check_matrix(b, false);
  if (a.shape(0) != c.shape(0) || b.shape(1) != c.shape(1) || a.shape(1) != b.shape(0)) {
    throw InputError("shapes of a, b and c do not fit");
  }
  Gemm product(named(set));
  const auto run = subtract ? &Gemm::subtract : &Gemm::add;
  (product.*run)(extent(c, 0), extent(c, 1), extent(a, 1), strided(a), strided(b), c.mutable_data(), stride(c, 0));
}

py::array_t<float> combine(const std::string& set, const Floats& a,
                           const py::array_t<float, py::array::c_style>& rows) {
  if (a.ndim() != 1 || rows.ndim() != 2 || rows.shape(0) != a.shape(0) || extent(rows, 1) != kRowTile) {
    throw InputError("expected a [depth] and rows [depth, " + std::to_string(kRowTile) + "]");
  }
  py::array_t<float> sum(static_cast<py::ssize_t>(kRowTile));
  std::fill_n(sum.mutable_data(), kRowTile, 0.0f);
  named(set).combine(extent(a, 0), a.data(), stride(a, 0), rows.data(), sum.mutable_data());
  return sum;
}

void gram(Floats h, const Floats& x, const py::int_& threads, bool mirror) {
  check_matrix(h, true);
  check_matrix(x, true);
  if (h.shape(0) != h.shape(1) || h.shape(1) != x.shape(1) || stride(h, 0) != extent(h, 1)) {
    throw InputError("expected h [cols, cols], contiguous, and x [rows, cols]");
  }
  Workers workers(to_threads(threads));
  float* to = h.mutable_data();
  const py::gil_scoped_release release;
  add_gram(to, extent(h, 1), x.data(), extent(x, 0), stride(x, 0), workers);
  if (mirror) mirror_gram(to, extent(h, 1), workers);
}

}  // namespace

void bind_gemm(py::module_& kernels) {
  kernels.def("gemm_sets", [] {
    py::list names;
    for (const GemmKernels& set : gemm_kernels()) names.append(set.name);
    return names;
  });
  kernels.attr("row_tile") = kRowTile;
  kernels.def("gemm", &gemm, py::arg("set"), py::arg("c").noconvert(), py::arg("a").noconvert(),
              py::arg("b").noconvert(), py::kw_only(), py::arg("subtract") = false);
  kernels.def("combine", &combine, py::arg("set"), py::arg("a").noconvert(), py::arg("rows").noconvert());
  kernels.def("add_gram", &gram, py::arg("h").noconvert(), py::arg("x").noconvert(), py::kw_only(),
              py::arg("threads") = 0, py::arg("mirror") = false);
}

}  // namespace qwen35
