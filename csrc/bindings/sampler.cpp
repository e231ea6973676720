#include "bindings/sampler.h"

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

}  // namespace

std::vector<std::uint32_t> to_mask(const py::object& words) {
  if (words.is_none()) return {};
  if (!py::isinstance<py::array_t<std::uint32_t>>(words)) throw InputError("a mask is an array of uint32, or None");
  const auto array = py::array_t<std::uint32_t, py::array::c_style>::ensure(words);
  if (array.ndim() != 1 || array.size() == 0) throw InputError("a mask is one row of words, at least one");
  return {array.data(), array.data() + array.size()};
}

namespace {

// One token, or any number of them.
std::vector<Token> to_accepted(const py::object& tokens) {
  return PyIndex_Check(tokens.ptr()) != 0 && !py::isinstance<py::array>(tokens) ? to_tokens(py::make_tuple(tokens))
                                                                                : to_tokens(tokens);
}

std::shared_ptr<SharedSampler> make_sampler(double temperature, const py::int_& top_k, double top_p, double min_p,
                                            double repetition_penalty, double presence_penalty,
                                            double frequency_penalty, const py::int_& penalty_last_n,
                                            const py::object& logit_bias, const py::object& seed,
                                            const std::optional<py::int_>& n_tokens_used, const py::object& stop_ids) {
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
  options.stop_ids = to_tokens(stop_ids);
  return std::make_shared<SharedSampler>(Sampler(std::move(options)));
}

}  // namespace

std::optional<std::size_t> to_logprobs(const std::optional<py::int_>& logprobs) {
  return logprobs ? std::optional(to_count("logprobs", *logprobs, 0)) : std::nullopt;
}

SamplerUse::SamplerUse(SharedSampler& shared) : shared_(&shared) {
  if (!shared.is_in_use.exchange(true)) return;
  shared_ = nullptr;
  throw InputError("this sampler is in use by another call; one at a time, or clone() it");
}

void bind_sampler(py::module_& module) {
  using LogitRow = py::array_t<float, py::array::c_style>;
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Sampled>(module, "Sampled", py::is_final())
      .def_readonly("token", &Sampled::token)
      .def_readonly("is_stop", &Sampled::is_stop)
      .def_property_readonly(
          "logprob", [](const Sampled& s) { return s.logprobs ? std::optional(s.logprobs->token) : std::nullopt; })
      .def_property_readonly("top_logprobs",
                             [](const Sampled& s) { return s.logprobs ? s.logprobs->top : Logprobs(); });
  py::class_<SharedSampler, std::shared_ptr<SharedSampler>>(module, "Sampler", py::is_final())
      .def(py::init(&make_sampler), py::kw_only(), py::arg("temperature") = 1.0, py::arg("top_k") = 0,
           py::arg("top_p") = 1.0, py::arg("min_p") = 0.0, py::arg("repetition_penalty") = 1.0,
           py::arg("presence_penalty") = 0.0, py::arg("frequency_penalty") = 0.0, py::arg("penalty_last_n") = -1,
           py::arg("logit_bias") = py::none(), py::arg("seed") = py::none(), py::arg("n_tokens_used") = py::none(),
           py::arg("stop_ids") = py::tuple())
      .def_property_readonly("seed", [](const SharedSampler& s) { return s.sampler.seed(); })
      .def("__len__", [](SharedSampler& s) { return SamplerUse(s)->accepted(); })
      .def(
          "accept", [](SharedSampler& s, const py::object& tokens) { SamplerUse(s)->accept(to_accepted(tokens)); },
          py::arg("tokens"))
      .def(
          "rewind", [](SharedSampler& s, const py::int_& n) { SamplerUse(s)->rewind(to_count("n", n, 0)); },
          py::arg("n"))
      .def(
          "clone", [](SharedSampler& s) { return std::make_shared<SharedSampler>(Sampler(*SamplerUse(s))); }, Release())
      .def(
          "set_mask", [](SharedSampler& s, const py::object& words) { SamplerUse(s)->set_masks({to_mask(words)}); },
          py::arg("words"))
      .def(
          "set_masks",
          [](SharedSampler& s, const py::iterable& rows) {
            std::vector<std::vector<std::uint32_t>> masks;
            for (const py::handle words : rows) masks.push_back(to_mask(py::reinterpret_borrow<py::object>(words)));
            SamplerUse(s)->set_masks(std::move(masks));
          },
          py::arg("rows"))
      .def(
          "sample",
          [](SharedSampler& s, const LogitRow& logits) {
            const std::span<const float> row = to_logits(logits);
            const py::gil_scoped_release release;
            return SamplerUse(s)->sample(row);
          },
          py::arg("logits"))
      .def(
          "next",
          [](SharedSampler& s, const LogitRow& logits, const std::optional<py::int_>& logprobs) {
            const std::span<const float> row = to_logits(logits);
            const auto count = to_logprobs(logprobs);
            const py::gil_scoped_release release;
            return SamplerUse(s)->next(row, count);
          },
          py::arg("logits"), py::kw_only(), py::arg("logprobs") = py::none())
      .def(
          "top_logprobs",
          [](SharedSampler& s, const LogitRow& logits, const py::int_& n) {
            const std::span<const float> row = to_logits(logits);
            const std::size_t count = to_count("n", n, 0);
            const py::gil_scoped_release release;
            return SamplerUse(s)->top_logprobs(row, count);
          },
          py::arg("logits"), py::arg("n"));
}

}  // namespace qwen35
