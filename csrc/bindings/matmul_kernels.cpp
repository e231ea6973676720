// _core.kernels: products, packed weights, and the functions behind them. Arrays are used where they lie.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/kernels.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/math.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using cpu::CpuBackend;
using Floats = py::array_t<float>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using Indices = py::array_t<std::int32_t, py::array::c_style>;

Tensor tensor(Floats& x) {
  if (x.ndim() != 2 || x.strides(1) != sizeof(float)) {
    throw InputError("expected a two-dimensional fp32 array whose last axis is contiguous");
  }
  const auto stride = static_cast<std::size_t>(x.strides(0)) / sizeof(float);
  return {x.mutable_data(), static_cast<std::size_t>(x.shape(0)), static_cast<std::size_t>(x.shape(1)), stride};
}

std::unique_ptr<Weight> pack(CpuBackend& self, const Bytes& data, const std::string& dtype, std::size_t rows,
                             std::size_t cols, std::size_t groups) {
  const DTypeInfo* type = find_dtype(std::string_view(dtype));
  if (type == nullptr) throw InputError("no tensor type is named " + dtype);
  const MatrixView view{reinterpret_cast<const std::byte*>(data.data()), type->dtype, rows, cols};
  if (view.bytes() != static_cast<std::size_t>(data.size())) {
    throw InputError("expected " + std::to_string(view.bytes()) + " bytes, got " + std::to_string(data.size()));
  }
  return self.pack(view, groups, {});
}

void matmul(CpuBackend& self, Floats x, std::vector<std::pair<Floats, const Weight*>> outs) {
  const auto at = [&](std::size_t i) { return Projection{tensor(outs[i].first), outs[i].second}; };
  switch (outs.size()) {
    case 1:
      return self.matmul(tensor(x), {at(0)});
    case 2:
      return self.matmul(tensor(x), {at(0), at(1)});
    case 3:
      return self.matmul(tensor(x), {at(0), at(1), at(2)});
    case 4:
      return self.matmul(tensor(x), {at(0), at(1), at(2), at(3)});
    default:
      throw InputError("expected one to four projections");
  }
}

using Shared = std::optional<std::tuple<Floats, const Weight*, const Weight*, const Weight*>>;  // act, gate, up, down

SharedExpert shared_expert(Shared& shared) {
  if (!shared) return {};
  auto& [act, gate, up, down] = *shared;
  return {tensor(act), gate, up, down};
}

std::uint32_t columns(const Indices& experts) { return static_cast<std::uint32_t>(experts.shape(1)); }

// Per row and block of 32: codes, then scale, sum, and the sums of the first 16 and of all codes.
py::tuple quantise_rows(const std::string& isa, Floats x) {
  const Tensor rows = tensor(x);
  const std::size_t blocks = rows.cols / cpu::kQuantisedColumns;
  const auto n = static_cast<py::ssize_t>(rows.rows), b = static_cast<py::ssize_t>(blocks);
  py::array_t<std::int8_t> codes({n, b, py::ssize_t{32}});
  Floats scales({n, b, py::ssize_t{2}});
  Indices sums({n, b, py::ssize_t{2}});
  std::vector<cpu::QuantisedBlock> out(blocks);
  for (std::size_t t = 0; t < rows.rows; ++t) {
    cpu::kernels(cpu::find_isa(isa)).matmul.quantise_rows(out.data(), rows.data + t * rows.stride, blocks);
    for (std::size_t i = 0; i < blocks; ++i) {
      const auto row = static_cast<py::ssize_t>(t), block = static_cast<py::ssize_t>(i);
      for (std::size_t c = 0; c < 32; ++c) {
        codes.mutable_at(row, block, static_cast<py::ssize_t>(c)) = out[i].codes[c];
      }
      scales.mutable_at(row, block, 0) = out[i].scale;
      scales.mutable_at(row, block, 1) = out[i].sum;
      sums.mutable_at(row, block, 0) = -out[i].minus_first_codes;
      sums.mutable_at(row, block, 1) = -out[i].minus_codes;
    }
  }
  return py::make_tuple(codes, scales, sums);
}

Floats silu_multiply(const std::string& isa, Floats gate, Floats up) {
  Floats out(gate.size());
  cpu::kernels(cpu::find_isa(isa))
      .matmul.silu_multiply(out.mutable_data(), gate.data(), up.data(), static_cast<std::size_t>(gate.size()));
  return out;
}

template <float (*kFunction)(float) noexcept>
Floats map(Floats x) {
  Floats out(x.size());
  for (py::ssize_t i = 0; i < x.size(); ++i) out.mutable_at(i) = kFunction(x.at(i));
  return out;
}

}  // namespace

void bind_matmul_kernels(py::module_& kernels) {
  py::class_<Weight>(kernels, "Weight")
      .def_property_readonly("rows", &Weight::rows)
      .def_property_readonly("cols", &Weight::cols)
      .def_property_readonly("n_bytes", &Weight::bytes);
  kernels.def("pack", &pack, py::arg("cpu"), py::arg("data"), py::arg("dtype"), py::arg("rows"), py::arg("cols"),
              py::arg("groups") = 1);
  kernels.def("embed", [](CpuBackend& self, Floats out, const Weight& table, const std::vector<Token>& tokens) {
    self.embed(tensor(out), table, tokens);
  });
  kernels.def("matmul", &matmul);
  kernels.def("matmul_add",
              [](CpuBackend& self, Floats x, Floats h, const Weight& w) { self.matmul_add(tensor(x), tensor(h), w); });
  kernels.def("swiglu", [](CpuBackend& self, Floats out, Floats h, const Weight& gate, const Weight& up) {
    self.swiglu(tensor(out), tensor(h), gate, up);
  });
  kernels.def(
      "moe_gather",
      [](CpuBackend& self, Floats out, Floats h, const Weight& gate, const Weight* up, const Indices& experts,
         std::uint32_t count, Shared shared) {
        const SharedExpert expert = shared_expert(shared);
        self.moe_gather(tensor(out), tensor(h), gate, up, experts.data(), columns(experts), count,
                        shared ? &expert : nullptr);
      },
      py::arg("cpu"), py::arg("out"), py::arg("h"), py::arg("gate"), py::arg("up"), py::arg("experts"),
      py::arg("count"), py::arg("shared") = py::none());
  kernels.def(
      "moe_combine",
      [](CpuBackend& self, Floats out, Floats h, const Weight& down, const Indices& experts, const Floats& weights,
         std::uint32_t count, Shared shared) {
        const SharedExpert expert = shared_expert(shared);
        self.moe_combine(tensor(out), tensor(h), down, experts.data(), weights.data(), columns(experts), count,
                         shared ? &expert : nullptr);
      },
      py::arg("cpu"), py::arg("out"), py::arg("h"), py::arg("down"), py::arg("experts"), py::arg("weights"),
      py::arg("count"), py::arg("shared") = py::none());
  kernels.def("quantise_rows", &quantise_rows);
  kernels.def("silu_multiply", &silu_multiply);
  kernels.def("exp", &map<cpu::exp>);
  kernels.def("sigmoid", &map<cpu::sigmoid>);
  kernels.def("silu", &map<cpu::silu>);
  kernels.def("softplus", &map<cpu::softplus>);
}

}  // namespace qwen35
