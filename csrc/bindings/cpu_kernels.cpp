// _core.kernels: kernels of the CPU's table by the name of an instruction set, and the functions behind them. Arrays
// are used where they lie.
#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <string>
#include <vector>

#include "base/error.h"
#include "base/processors.h"
#include "bindings/kernels.h"
#include "devices/cpu/isa.h"
#include "devices/cpu/math.h"
#include "tensor/blocks.h"
#include "tensor/encoders.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using Floats = py::array_t<float>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;
using Indices = py::array_t<std::int32_t, py::array::c_style>;

const cpu::Table& table_of(const std::string& isa) { return cpu::kernels(cpu::find_isa(isa)); }

// Rows may be strided and start anywhere; the columns of a row are neighbours.
struct Rows {
  float* data;
  std::size_t rows;
  std::size_t cols;
  std::size_t stride;
};

Rows rows_of(Floats& x) {
  if (x.ndim() != 2 || x.strides(1) != sizeof(float)) {
    throw InputError("expected a two-dimensional fp32 array whose last axis is contiguous");
  }
  const auto stride = static_cast<std::size_t>(x.strides(0)) / sizeof(float);
  return {x.mutable_data(), static_cast<std::size_t>(x.shape(0)), static_cast<std::size_t>(x.shape(1)), stride};
}

float* contiguous(Floats& x) {
  if ((x.flags() & py::array::c_style) == 0) throw InputError("expected a contiguous fp32 array");
  return x.mutable_data();
}

// Two of the kernels that gated_delta_net is made of.
void conv_silu(const std::string& isa, Floats out, Floats x, Floats kernel, Floats window, std::size_t accepted,
               std::size_t uncertain) {
  const Rows to = rows_of(out), from = rows_of(x);
  table_of(isa).conv_silu({.x = from.data,
                           .out = to.data,
                           .rows = from.rows,
                           .stride = from.stride,
                           .out_stride = to.stride,
                           .window = contiguous(window),
                           .kernel = contiguous(kernel),
                           .channels = from.cols,
                           .count = from.cols,
                           .accepted = accepted,
                           .certain = from.rows - uncertain});
}

void gated_rms_norm(const std::string& isa, Floats out, Floats x, Floats z, Floats weight, float eps) {
  const Rows to = rows_of(out), gate = rows_of(z);
  table_of(isa).gated_rms_norm(
      {to.data, contiguous(x), gate.data, contiguous(weight), to.rows, to.cols, to.stride, gate.stride, eps});
}

// Per row and block of 32: codes, then scale, sum, and the sums of the first 16 and of all codes.
py::tuple quantise_rows(const std::string& isa, Floats x) {
  const Rows rows = rows_of(x);
  const std::size_t blocks = rows.cols / cpu::kQuantisedColumns;
  const auto n = static_cast<py::ssize_t>(rows.rows), b = static_cast<py::ssize_t>(blocks);
  py::array_t<std::int8_t> codes({n, b, py::ssize_t{32}});
  Floats scales({n, b, py::ssize_t{2}});
  Indices sums({n, b, py::ssize_t{2}});
  std::vector<cpu::QuantisedBlock> out(blocks);
  for (std::size_t t = 0; t < rows.rows; ++t) {
    table_of(isa).matmul.quantise_rows(out.data(), rows.data + t * rows.stride, blocks);
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
  table_of(isa).matmul.silu_multiply(out.mutable_data(), gate.data(), up.data(), static_cast<std::size_t>(gate.size()));
  return out;
}

template <float (*kFunction)(float) noexcept>
Floats map(Floats x) {
  Floats out(x.size());
  for (py::ssize_t i = 0; i < x.size(); ++i) out.mutable_at(i) = kFunction(x.at(i));
  return out;
}

std::uint64_t read_sum(const std::string& isa, const Bytes& data) {
  const auto bytes = static_cast<std::size_t>(data.size());
  if (bytes % cpu::kReadBlock != 0) throw InputError("read_sum reads whole blocks of 4096 bytes");
  return table_of(isa).read_sum(reinterpret_cast<const std::byte*>(data.data()), bytes, 0);
}

Bytes encode_in_passing(const py::array_t<float, py::array::c_style>& values) {
  const auto count = static_cast<std::size_t>(values.size());
  Bytes blocks(static_cast<py::ssize_t>(count / kBlock * sizeof(BlockIQ4_NL)));
  encode_iq4_nl_in_passing(values.data(), count, reinterpret_cast<std::byte*>(blocks.mutable_data()));
  return blocks;
}

}  // namespace

void bind_cpu_kernels(py::module_& kernels) {
  kernels.def("conv_silu", &conv_silu, py::arg("isa"), py::arg("out"), py::arg("x"), py::arg("kernel"),
              py::arg("window"), py::arg("accepted") = 0, py::arg("uncertain") = 0);
  kernels.def("gated_rms_norm", &gated_rms_norm);
  kernels.def("quantise_rows", &quantise_rows);
  kernels.def("silu_multiply", &silu_multiply);
  kernels.def("exp", &map<cpu::exp>);
  kernels.def("sigmoid", &map<cpu::sigmoid>);
  kernels.def("silu", &map<cpu::silu>);
  kernels.def("softplus", &map<cpu::softplus>);
  kernels.def("read_sum", &read_sum);
  kernels.def("multiply_int8", [](const std::string& isa, std::size_t rounds) {
    std::uint32_t sum = 0;
    return table_of(isa).multiply_int8(rounds, &sum);
  });
  kernels.def("encode_iq4_nl_in_passing", &encode_in_passing);
  kernels.def("performance_processors", &performance_processors, py::arg("folder"), py::arg("processors"));
}

}  // namespace qwen35
