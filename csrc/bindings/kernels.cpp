// _core.kernels: every operation of the CPU backend on every instruction set, numpy in and out. For tests.
#include "bindings/kernels.h"

#include <pybind11/numpy.h>
#include <pybind11/stl.h>

#include <array>
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "base/processors.h"
#include "base/workers.h"
#include "bindings/bindings.h"
#include "devices/cpu/cpu_backend.h"
#include "tensor/blocks.h"
#include "tensor/encoders.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using Floats = py::array_t<float>;
using Range = std::tuple<std::size_t, std::size_t, std::size_t>;  // first, count, position

// Rows may be strided and start anywhere; the columns of a row are neighbours. numpy gives an empty array no strides.
Tensor tensor(Floats& x) {
  if (x.ndim() == 2 && x.size() == 0) {
    const auto cols = static_cast<std::size_t>(x.shape(1));
    return {x.mutable_data(), static_cast<std::size_t>(x.shape(0)), cols, cols};
  }
  if (x.ndim() != 2 || x.strides(1) != sizeof(float) || x.strides(0) % static_cast<py::ssize_t>(sizeof(float)) != 0) {
    throw InputError("expected a two-dimensional fp32 array whose last axis is contiguous");
  }
  const auto stride = static_cast<std::size_t>(x.strides(0)) / sizeof(float);
  return {x.mutable_data(), static_cast<std::size_t>(x.shape(0)), static_cast<std::size_t>(x.shape(1)), stride};
}

float* contiguous(Floats& x) {
  if ((x.flags() & py::array::c_style) == 0) throw InputError("expected a contiguous fp32 array");
  return x.mutable_data();
}

AttentionShape attention_shape(const Range& s) {
  const auto [heads, kv_heads, width] = s;
  return {static_cast<std::uint32_t>(heads), static_cast<std::uint32_t>(kv_heads), static_cast<std::uint32_t>(width)};
}

DeltaShape delta_shape(const std::vector<std::uint32_t>& s) { return {s.at(0), s.at(1), s.at(2), s.at(3), s.at(4)}; }

// One layer's memory of one sequence: DeltaSegment's arrays in their order.
using DeltaArrays = std::array<Floats, 5>;

std::vector<DeltaSegment> delta_segments(const std::vector<Range>& ranges, std::vector<DeltaArrays>& memories) {
  std::vector<DeltaSegment> segments;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const auto [first, count, position] = ranges[i];
    auto& [window, memory, keys, deltas, decays] = memories.at(i);
    segments.push_back({{first, count, position},
                        contiguous(window),
                        contiguous(memory),
                        contiguous(keys),
                        contiguous(deltas),
                        contiguous(decays)});
  }
  return segments;
}

// The pages of one sequence in one attention layer. The first `blank` of them are one and the same, for tests at far
// positions that have no history.
struct KvCache {
  KvCache(cpu::CpuBackend& backend, const std::string& format_name, const Range& shape, std::size_t count,
          std::size_t blank)
      : format(to_kv_format(format_name)) {
    for (std::size_t p = 0; is_quantised(format) && p < count; ++p) {
      buffers.push_back(backend.allocate(backend.quantised_page_bytes(format, attention_shape(shape))));
      packed.push_back(buffers.back()->data());
    }
    for (std::size_t p = 0; p < count; ++p) {
      if (p == 0 || p >= blank) {
        buffers.push_back(backend.allocate(backend.kv_page_bytes(format, attention_shape(shape))));
      }
      pages.push_back(buffers.back()->data());
    }
  }

  KvFormat format;
  std::vector<std::unique_ptr<Buffer>> buffers;
  std::vector<std::byte*> pages;
  std::vector<std::byte*> packed;
};

std::vector<KvSegment> kv_segments(const std::vector<Range>& ranges, const std::vector<KvCache*>& caches) {
  std::vector<KvSegment> segments;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    const auto [first, count, position] = ranges[i];
    segments.push_back({{first, count, position}, caches.at(i)->pages, caches.at(i)->format, caches.at(i)->packed});
  }
  return segments;
}

void bind_rows(py::class_<cpu::CpuBackend>& backend) {
  using cpu::CpuBackend;
  backend.def("rms_norm", [](CpuBackend& self, Floats out, Floats x, Floats weight, float eps) {
    const Tensor to = tensor(out), from = tensor(x);
    const float* scale = contiguous(weight);
    self.rms_norm(to, from, scale, eps);
  });
  backend.def("sigmoid_gate",
              [](CpuBackend& self, Floats h, Floats gate) { self.sigmoid_gate(tensor(h), tensor(gate)); });
  backend.def("take_rows", [](CpuBackend& self, Floats out, Floats x, const std::vector<std::uint32_t>& rows) {
    self.take_rows(tensor(out), tensor(x), rows);
  });
  backend.def("route", [](CpuBackend& self, Floats logits, std::uint32_t top_k) {
    const Tensor x = tensor(logits);
    const auto rows = static_cast<py::ssize_t>(x.rows);
    py::array_t<std::int32_t> experts({rows, static_cast<py::ssize_t>(top_k)});
    Floats weights({rows, static_cast<py::ssize_t>(top_k)});
    self.route(experts.mutable_data(), weights.mutable_data(), x, top_k);
    return py::make_tuple(experts, weights);
  });
}

void bind_delta(py::class_<cpu::CpuBackend>& backend) {
  using cpu::CpuBackend;
  // Two of the kernels that gated_delta_net is made of, by themselves.
  backend.def("conv_silu", [](CpuBackend& self, Floats out, Floats x, Floats kernel, Floats window) {
    const Tensor to = tensor(out), from = tensor(x);
    self.table().conv_silu({from.data, to.data, from.rows, from.stride, to.stride, contiguous(window),
                            contiguous(kernel), from.cols, from.cols});
  });
  backend.def("gated_rms_norm", [](CpuBackend& self, Floats out, Floats x, Floats z, Floats weight, float eps) {
    const Tensor to = tensor(out), gate = tensor(z);
    self.table().gated_rms_norm(
        {to.data, contiguous(x), gate.data, contiguous(weight), to.rows, to.cols, to.stride, gate.stride, eps});
  });
  backend.def("gated_delta_net", [](CpuBackend& self, Floats out, Floats qkv, Floats z, Floats a, Floats b,
                                    std::array<Floats, 4> parameters, const std::vector<std::uint32_t>& shape,
                                    float eps, const std::vector<Range>& ranges, std::vector<DeltaArrays> memories) {
    auto& [conv, ssm_a, dt_bias, norm] = parameters;
    self.gated_delta_net(tensor(out), tensor(qkv), tensor(z), tensor(a), tensor(b),
                         {contiguous(conv), contiguous(ssm_a), contiguous(dt_bias), contiguous(norm)},
                         delta_shape(shape), eps, delta_segments(ranges, memories));
  });
  backend.attr("DELTA_CHUNK") = kDeltaChunk;
}

// How many items each worker of a team does of a loop in which the last worker's first piece does not end before all
// the others' are done, or before a deadline that is missed only where they wait for it.
std::vector<std::size_t> items_beside_a_slow_worker(unsigned threads, std::size_t items) {
  Workers workers(threads);
  const unsigned slow = workers.count() - 1;
  std::vector<std::size_t> done(workers.count());
  std::atomic<std::size_t> total{0};
  std::atomic<bool> has_begun{false};
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(5);
  const auto until = [&](auto&& holds) {
    while (!holds() && std::chrono::steady_clock::now() < deadline) std::this_thread::yield();
  };
  workers.each(items, [&](std::size_t begin, std::size_t end, unsigned worker) {
    if (worker == slow && done[worker] == 0) {
      has_begun = true;
      until([&] { return total == items - (end - begin); });
    } else if (worker != slow) {
      until([&] { return has_begun.load(); });
    }
    done[worker] += end - begin;
    total += end - begin;
  });
  return done;
}

void bind_attention(py::class_<cpu::CpuBackend>& backend) {
  using cpu::CpuBackend;
  backend.def("norm_rope_append",
              [](CpuBackend& self, Floats q_gate, Floats k, Floats v, Floats q_norm, Floats k_norm, float eps,
                 const std::vector<double>& inv_freq, float magnitude, const Range& shape,
                 const std::vector<Range>& ranges, const std::vector<KvCache*>& caches) {
                self.norm_rope_append(tensor(q_gate), tensor(k), tensor(v), contiguous(q_norm), contiguous(k_norm), eps,
                                      {inv_freq, magnitude}, attention_shape(shape), kv_segments(ranges, caches));
              });
  backend.def("attend", [](CpuBackend& self, Floats out, Floats q_gate, const Range& shape,
                           const std::vector<Range>& ranges, const std::vector<KvCache*>& caches) {
    const Tensor to = tensor(out), from = tensor(q_gate);
    const std::vector<KvSegment> segments = kv_segments(ranges, caches);
    self.attend(to, from, attention_shape(shape), segments);
  });
}

}  // namespace

void bind_kernels(py::module_& module) {
  py::module_ kernels = module.def_submodule("kernels", "Every operation of the CPU backend, for tests.");
  kernels.def("isas", [] {
    std::vector<std::string> names;
    for (const cpu::Isa isa : cpu::available_isas()) names.emplace_back(cpu::isa_name(isa));
    return names;
  });
  kernels.def("chosen_isa", [] { return cpu::isa_name(cpu::chosen_isa()); });
  kernels.def("usable_threads", &usable_threads);
  kernels.def("performance_processors", &performance_processors, py::arg("folder"), py::arg("processors"));
  kernels.def("items_beside_a_slow_worker", &items_beside_a_slow_worker, py::arg("threads"), py::arg("items"));
  kernels.def("read_sum", [](const std::string& isa, const py::array_t<std::uint8_t, py::array::c_style>& data) {
    const auto bytes = static_cast<std::size_t>(data.size());
    if (bytes % cpu::kReadBlock != 0) throw InputError("read_sum reads whole blocks of 4096 bytes");
    return cpu::kernels(cpu::find_isa(isa)).read_sum(reinterpret_cast<const std::byte*>(data.data()), bytes, 0);
  });
  kernels.def("encode_iq4_nl_in_passing", [](const py::array_t<float, py::array::c_style>& values) {
    const auto count = static_cast<std::size_t>(values.size());
    py::array_t<std::uint8_t> blocks(static_cast<py::ssize_t>(count / kBlock * sizeof(BlockIQ4_NL)));
    encode_iq4_nl_in_passing(values.data(), count, reinterpret_cast<std::byte*>(blocks.mutable_data()));
    return blocks;
  });
  kernels.def("multiply_int8", [](const std::string& isa, std::size_t rounds) {
    std::int32_t sum = 0;
    return cpu::kernels(cpu::find_isa(isa)).multiply_int8(rounds, &sum);
  });

  // Arrays are used where they lie and written in place, strides and unaligned starts included. Operations keep the
  // interpreter's lock, so that a device has one caller at a time.
  py::class_<cpu::CpuBackend> backend(kernels, "Cpu");
  backend.def(py::init([](const std::string& isa, unsigned threads) {
                return std::make_unique<cpu::CpuBackend>(cpu::find_isa(isa), threads);
              }),
              py::arg("isa"), py::arg("threads") = 1);
  backend.def_property_readonly("name", &cpu::CpuBackend::name);
  py::class_<KvCache>(kernels, "KvCache")
      .def(py::init<cpu::CpuBackend&, const std::string&, const Range&, std::size_t, std::size_t>(), py::arg("cpu"),
           py::arg("format"), py::arg("shape"), py::arg("pages"), py::arg("blank") = 0)
      .def("bytes",
           [](const KvCache& self, std::size_t page) {
             return py::bytes(reinterpret_cast<const char*>(self.pages.at(page)), self.buffers.back()->bytes());
           })
      .def("packed_bytes", [](const KvCache& self, std::size_t page) {
        return py::bytes(reinterpret_cast<const char*>(self.packed.at(page)), self.buffers.front()->bytes());
      });
  bind_rows(backend);
  bind_delta(backend);
  bind_attention(backend);
  bind_matmul_kernels(kernels);
}

}  // namespace qwen35
