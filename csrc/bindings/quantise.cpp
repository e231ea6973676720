// The solver: second moments factored once, matrices quantised with them, and what an encoded matrix costs.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/workers.h"
#include "bindings/bindings.h"
#include "bindings/formats.h"
#include "quantise/factor.h"
#include "quantise/solve.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;

std::string shape_of(const py::array& array) { return py::str(array.attr("shape")).cast<std::string>(); }

std::size_t square_side(const char* what, const Floats& h) {
  if (h.ndim() != 2 || h.shape(0) != h.shape(1)) {
    throw InputError(std::string(what) + ": moments have shape " + shape_of(h) + ", expected [columns, columns]");
  }
  return static_cast<std::size_t>(h.shape(0));
}

// Rows of a matrix [rows, cols], or of several one behind the other; cols are checked.
std::size_t rows_of(const char* what, const py::array& values, std::size_t cols, const char* unit) {
  if (values.ndim() < 1 || static_cast<std::size_t>(values.shape(values.ndim() - 1)) != cols) {
    throw InputError(std::string(what) + ": shape is " + shape_of(values) + ", expected rows of " +
                     std::to_string(cols) + " " + unit);
  }
  return cols == 0 ? 0 : static_cast<std::size_t>(values.size()) / cols;
}

// Whole blocks in a row, checked; in bytes.
std::size_t bytes_of_row(const char* what, const DTypeInfo& type, std::size_t cols) {
  if (cols % type.block != 0) {
    throw InputError(std::string(what) + " " + type.name + ": rows of " + std::to_string(cols) +
                     " values are not whole blocks of " + std::to_string(type.block));
  }
  return cols / type.block * type.block_bytes;
}

Factor make_factor(const Floats& h, double tokens, std::optional<double> damping, const py::int_& threads) {
  const Moments moments{h.data(), square_side("Factor", h), tokens};
  if (damping && !(*damping >= 0.0)) {
    throw InputError("damping is " + std::to_string(*damping) + ", expected a part of the mean diagonal, 0 to 1");
  }
  const unsigned team = to_threads(threads);
  const py::gil_scoped_release release;
  Workers workers(team);
  return Factor(moments, damping.value_or(-1.0), workers);
}

Bytes solve_values(const Floats& values, const std::string& dtype, const Factor& factor, const py::int_& sweeps,
                   const py::int_& threads) {
  const DTypeInfo& type = named_type(dtype);
  const std::size_t rows = rows_of("solve", values, factor.cols(), "values, one for each column of the moments");
  constexpr std::size_t kMostSweeps = 100;
  const SolveOptions options{static_cast<unsigned>(std::min(to_count("sweeps", sweeps, 0), kMostSweeps)),
                             to_threads(threads)};
  std::vector<py::ssize_t> shape(values.shape(), values.shape() + values.ndim());
  shape.back() = static_cast<py::ssize_t>(bytes_of_row("solve", type, factor.cols()));
  Bytes encoded(shape);
  auto* to = reinterpret_cast<std::byte*>(encoded.mutable_data());
  const float* from = values.data();
  const py::gil_scoped_release release;
  solve(type.dtype, from, rows, factor, options, to);
  return encoded;
}

double error_of(const Floats& values, const Bytes& data, const std::string& dtype, const Floats& h,
                const py::int_& threads) {
  const DTypeInfo& type = named_type(dtype);
  const std::size_t cols = square_side("weighted_error", h);
  const std::size_t rows = rows_of("weighted_error", values, cols, "values, one for each column of the moments");
  const std::size_t bytes = rows * bytes_of_row("weighted_error", type, cols);
  if (static_cast<std::size_t>(data.size()) != bytes) {
    throw InputError("weighted_error: " + std::to_string(data.size()) + " bytes are not " + std::to_string(rows) +
                     " rows of " + std::to_string(cols) + " values of " + type.name + ", " + std::to_string(bytes) +
                     " bytes");
  }
  const unsigned team = to_threads(threads);
  const auto* encoded = reinterpret_cast<const std::byte*>(data.data());
  const py::gil_scoped_release release;
  return weighted_error(type.dtype, values.data(), rows, cols, encoded, h.data(), team);
}

}  // namespace

void bind_quantise(py::module_& module) {
  py::class_<Factor>(module, "Factor", py::is_final())
      .def(py::init(&make_factor), py::arg("h"), py::arg("tokens"), py::kw_only(), py::arg("damping") = py::none(),
           py::arg("threads") = 0)
      .def_property_readonly("cols", &Factor::cols)
      .def_property_readonly("damping", &Factor::damping);
  module.def("solve", &solve_values, py::arg("values"), py::arg("dtype"), py::arg("factor"), py::kw_only(),
             py::arg("sweeps") = SolveOptions{}.sweeps, py::arg("threads") = 0);
  module.def("weighted_error", &error_of, py::arg("values"), py::arg("data"), py::arg("dtype"), py::arg("h"),
             py::kw_only(), py::arg("threads") = 0);
}

}  // namespace qwen35
