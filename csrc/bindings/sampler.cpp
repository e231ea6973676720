#include "sequence/sampler.h"

#include <pybind11/stl.h>

#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>

#include "base/error.h"
#include "bindings/bindings.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

std::uint64_t fresh_seed() {
  std::random_device device;
  return std::uint64_t{device()} << 32U | device();
}

std::uint64_t to_seed(const py::object& seed) {
  if (seed.is_none()) return fresh_seed();
  const unsigned long long value = PyLong_AsUnsignedLongLong(seed.ptr());
  if (PyErr_Occurred() != nullptr) {
    if (PyErr_ExceptionMatches(PyExc_OverflowError) == 0) throw py::error_already_set();
    PyErr_Clear();
    throw InputError("seed is " + py::str(seed).cast<std::string>() + ", expected 0 to 2^64 - 1");
  }
  return value;
}

std::vector<std::pair<Token, double>> to_bias(const py::object& mapping) {
  std::vector<std::pair<Token, double>> bias;
  if (mapping.is_none()) return bias;
  for (const py::handle item : py::reinterpret_borrow<py::object>(mapping).attr("items")()) {
    const auto pair = py::cast<py::tuple>(item);
    bias.emplace_back(to_tokens(py::make_tuple(pair[0])).front(), py::cast<double>(pair[1]));
  }
  return bias;
}

std::span<const float> to_logits(const py::array_t<float, py::array::c_style>& logits) {
  if (logits.ndim() != 1) {
    throw InputError("logits have " + std::to_string(logits.ndim()) + " dimensions, expected 1: one row");
  }
  return {logits.data(), static_cast<std::size_t>(logits.size())};
}

std::unique_ptr<Sampler> make_sampler(double temperature, const py::int_& top_k, double top_p, double min_p,
                                      double repetition_penalty, double presence_penalty, double frequency_penalty,
                                      const py::int_& penalty_last_n, const py::object& logit_bias,
                                      const py::object& seed, const std::optional<py::int_>& n_tokens_used) {
  SamplerOptions options;
  options.temperature = temperature;
  options.top_k = to_count("top_k", top_k, 0);
  options.top_p = top_p;
  options.min_p = min_p;
  options.repetition_penalty = repetition_penalty;
  options.presence_penalty = presence_penalty;
  options.frequency_penalty = frequency_penalty;
  options.penalty_last_n = to_count("penalty_last_n", penalty_last_n, -1);
  options.bias = to_bias(logit_bias);
  options.seed = to_seed(seed);
  if (n_tokens_used) options.tokens_used = to_count("n_tokens_used", *n_tokens_used, 1);
  return std::make_unique<Sampler>(std::move(options));
}

}  // namespace

void bind_sampler(py::module_& module) {
  using LogitRow = py::array_t<float, py::array::c_style>;
  py::class_<Sampler>(module, "Sampler", py::is_final())
      .def(py::init(&make_sampler), py::kw_only(), py::arg("temperature") = 1.0, py::arg("top_k") = 0,
           py::arg("top_p") = 1.0, py::arg("min_p") = 0.0, py::arg("repetition_penalty") = 1.0,
           py::arg("presence_penalty") = 0.0, py::arg("frequency_penalty") = 0.0, py::arg("penalty_last_n") = -1,
           py::arg("logit_bias") = py::none(), py::arg("seed") = py::none(), py::arg("n_tokens_used") = py::none())
      .def_property_readonly("seed", &Sampler::seed)
      .def(
          "sample",
          [](Sampler& sampler, const LogitRow& logits, const py::object& history) {
            const std::span<const float> row = to_logits(logits);
            const std::vector<Token> seen = to_tokens(history);
            const py::gil_scoped_release release;
            return sampler.sample(row, seen);
          },
          py::arg("logits"), py::arg("history") = py::tuple())
      .def(
          "top_logprobs",
          [](const Sampler& sampler, const LogitRow& logits, const py::int_& n) {
            const std::span<const float> row = to_logits(logits);
            const std::size_t count = to_count("n", n, 0);
            const py::gil_scoped_release release;
            return sampler.top_logprobs(row, count);
          },
          py::arg("logits"), py::arg("n"));
}

}  // namespace qwen35
