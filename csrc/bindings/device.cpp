// _core.kernels.Device: every operation of any backend, numpy in and out. For tests: an operation uploads its arrays,
// runs, and downloads what it wrote. A device has one caller at a time: operations keep the interpreter's lock.
#include <pybind11/stl.h>

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/kernel_steps.h"
#include "bindings/kernels.h"
#include "bindings/staging.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/open.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using py::array;

struct Device {
  std::unique_ptr<Backend> ops;
};

constexpr std::string_view kCpu = "cpu-";

// "cpu-avx2" and its like, or a name that open_backend knows.
std::unique_ptr<Backend> open(std::string_view name, unsigned threads) {
  if (!name.starts_with(kCpu)) return open_backend(name, threads);
  return std::make_unique<cpu::CpuBackend>(cpu::find_isa(name.substr(kCpu.size())), threads);
}

// By name, each instruction set of the CPU a device of its own.
std::vector<std::string> possible_devices() {
  std::vector<std::string> names;
  for (std::size_t i = 0; i < cpu::kIsas; ++i) {
    names.push_back(std::string(kCpu) + cpu::isa_name(static_cast<cpu::Isa>(i)));
  }
  for (const DeviceKind* kind : device_kinds()) {
    if (kind != &cpu::kind()) names.emplace_back(kind->name());
  }
  return names;
}

std::vector<std::string> devices_here() {
  std::vector<std::string> names;
  for (const cpu::Isa isa : cpu::available_isas()) names.push_back(std::string(kCpu) + cpu::isa_name(isa));
  for (const DeviceKind* kind : device_kinds()) {
    if (kind != &cpu::kind() && DeviceId{kind, 0}.absence().empty()) names.emplace_back(kind->name());
  }
  return names;
}

DeltaShape delta_shape(const std::vector<std::uint32_t>& s) { return {s.at(0), s.at(1), s.at(2), s.at(3), s.at(4)}; }

void run(Device& device, const ModelShape& model, const StepArrays& step, const std::function<void()>& pass) {
  device.ops->reserve(model, step.view());
  device.ops->run(step.view(), pass);
}

// A model of nothing but the attention whose keys and values these are.
ModelShape attention_model(const std::vector<KvCache*>& caches) {
  ModelShape model;
  if (!caches.empty()) model.attention = caches.front()->shape();
  return model;
}

// ---- operations ---------------------------------------------------------------------------------------------------

void embed(Device& device, const array& out, const Weight& table, const std::vector<Token>& tokens,
           const std::vector<std::pair<std::uint32_t, array>>& inputs) {
  Stage stage(*device.ops);
  const Tensor to = stage.tensor(out);
  StepArrays step;
  step.tokens = tokens;
  step.positions.resize(tokens.size());
  for (const auto& [row, values] : inputs) step.inputs.push_back({row, stage.floats(values)});
  run(device, {}, step, [&] { device.ops->embed(to, table); });
  stage.fetch(out);
}

void rms_norm(Device& device, const array& out, const array& x, const array& weight, float eps) {
  Stage stage(*device.ops);
  device.ops->rms_norm(stage.tensor(out), stage.tensor(x), stage.floats(weight), eps);
  stage.fetch(out);
}

using Outputs = std::vector<std::pair<array, const Weight*>>;

std::vector<Projection> projections_of(Stage& stage, const Outputs& outs) {
  std::vector<Projection> projections;
  for (const auto& [out, w] : outs) projections.push_back({stage.tensor(out), w});
  return projections;
}

void matmul(Device& device, const array& x, const Outputs& outs) {
  Stage stage(*device.ops);
  const std::vector<Projection> projections = projections_of(stage, outs);
  device.ops->matmul(stage.tensor(x), projections);
  for (const auto& [out, w] : outs) stage.fetch(out);
}

// One operation behind the other, as in a model: a device may make one of them.
void normed_matmul(Device& device, const array& h, const array& x, const array& weight, float eps,
                   const Outputs& outs) {
  Stage stage(*device.ops);
  const std::vector<Projection> projections = projections_of(stage, outs);
  const Tensor normed = stage.tensor(h);
  device.ops->rms_norm(normed, stage.tensor(x), stage.floats(weight), eps);
  device.ops->matmul(normed, projections);
  stage.fetch(h);
  for (const auto& [out, w] : outs) stage.fetch(out);
}

void matmul_add(Device& device, const array& x, const array& h, const Weight& w) {
  Stage stage(*device.ops);
  device.ops->matmul_add(stage.tensor(x), stage.tensor(h), w);
  stage.fetch(x);
}

void swiglu(Device& device, const array& out, const array& h, const Weight& gate, const Weight& up) {
  Stage stage(*device.ops);
  device.ops->swiglu(stage.tensor(out), stage.tensor(h), gate, up);
  stage.fetch(out);
}

void gated_delta_net(Device& device, const array& out, const array& qkv, const array& z, const array& a, const array& b,
                     const std::array<array, 4>& parameters, const std::vector<std::uint32_t>& shape, float eps,
                     const std::vector<Range>& ranges, const std::vector<DeltaState*>& states, const Commits& commits) {
  Stage stage(*device.ops);
  const Tensor to = stage.tensor(out), x = stage.tensor(qkv), gate = stage.tensor(z);
  const Tensor decays = stage.tensor(a), betas = stage.tensor(b);
  const auto& [conv, ssm_a, dt_bias, norm] = parameters;
  const DeltaParameters given{stage.floats(conv), stage.floats(ssm_a), stage.floats(dt_bias), stage.floats(norm)};
  const StepArrays step = make_step(qkv.shape(0), ranges, {}, states, commits);
  ModelShape model;
  model.delta = delta_shape(shape);
  run(device, model, step,
      [&] { device.ops->gated_delta_net(to, x, gate, decays, betas, given, model.delta, eps, 0); });
  stage.fetch(out);
}

// With `attended`, attend follows in the same pass, and its result is all that comes back.
void norm_rope_append(Device& device, const array& q_gate, const array& k, const array& v, const array& q_norm,
                      const array& k_norm, float eps, const std::vector<double>& inv_freq, float magnitude,
                      const Range& shape, const std::vector<Range>& ranges, const std::vector<KvCache*>& caches,
                      const std::vector<std::array<std::int32_t, 3>>& positions,
                      const std::array<std::uint32_t, 3>& sections, const Commits& commits,
                      const std::optional<array>& attended) {
  Stage stage(*device.ops);
  const Tensor queries = stage.tensor(q_gate), keys = stage.tensor(k), values = stage.tensor(v);
  const Tensor out = attended ? stage.tensor(*attended) : Tensor{};
  const HeadNorms norms{stage.floats(q_norm), stage.floats(k_norm)};
  const auto table = device.ops->allocate(inv_freq.size() * sizeof(double));
  device.ops->upload(table->data(), reinterpret_cast<const std::byte*>(inv_freq.data()), table->bytes());
  const Rope rope{table->data().as<const double>(), static_cast<std::uint32_t>(inv_freq.size()), sections, magnitude};
  StepArrays step = make_step(q_gate.shape(0), ranges, caches, {}, commits);
  for (std::size_t row = 0; row < positions.size(); ++row) {
    const auto [t, h, w] = positions[row];
    step.positions.at(row) = {t, h, w};
  }
  run(device, attention_model(caches), step, [&] {
    device.ops->norm_rope_append(queries, keys, values, norms, eps, rope, attention_shape(shape), 0);
    if (attended) device.ops->attend(out, queries, attention_shape(shape), 0);
  });
  if (attended) return stage.fetch(*attended);
  for (const array& changed : {q_gate, k, v}) stage.fetch(changed);
}

void attend(Device& device, const array& out, const array& q_gate, const Range& shape, const std::vector<Range>& ranges,
            const std::vector<KvCache*>& caches) {
  Stage stage(*device.ops);
  const Tensor to = stage.tensor(out), from = stage.tensor(q_gate);
  const StepArrays step = make_step(q_gate.shape(0), ranges, caches, {}, {});
  run(device, attention_model(caches), step, [&] { device.ops->attend(to, from, attention_shape(shape), 0); });
  stage.fetch(out);
}

py::tuple route(Device& device, const array& h, const Weight& router, std::uint32_t top_k, const Weight* shared_gate) {
  const py::ssize_t rows = h.shape(0);
  const array logits = py::array_t<float>({rows, static_cast<py::ssize_t>(router.rows())});
  const array experts = py::array_t<std::int32_t>({rows, static_cast<py::ssize_t>(top_k)});
  const array weights = py::array_t<float>({rows, static_cast<py::ssize_t>(top_k)});
  const array gate = py::array_t<float>({rows, py::ssize_t{1}});
  Stage stage(*device.ops);
  const Routes to{stage.integers(experts), stage.floats(weights), top_k, stage.tensor(gate)};
  device.ops->route(to, stage.tensor(logits), stage.tensor(h), {&router, shared_gate});
  stage.fetch(experts);
  stage.fetch(weights);
  stage.fetch(gate);
  return py::make_tuple(experts, weights, gate);
}

py::tuple top_k(Device& device, const array& logits, std::size_t k,
                const std::vector<std::tuple<std::int32_t, std::uint32_t, double>>& edits, double repetition,
                double presence, double frequency, const std::vector<std::uint32_t>& allowed, bool log_sum) {
  std::vector<EditedToken> tokens;
  for (const auto& [id, count, bias] : edits) tokens.push_back({id, count, bias});
  std::vector<Candidate> best(k);
  Stage stage(*device.ops);
  const LogitEdits changes{tokens, repetition, presence, frequency, allowed};
  double sum = 0.0;
  best.resize(device.ops->top_k(best, stage.tensor(logits), changes, log_sum ? &sum : nullptr));
  py::list found;
  for (const Candidate& c : best) found.append(py::make_tuple(c.id, c.logit, c.given));
  return py::make_tuple(found, log_sum ? py::object(py::float_(sum)) : py::object(py::none()));
}

using Shared = std::optional<std::tuple<const Weight*, const Weight*, const Weight*>>;  // gate, up, down

ExpertWeights expert_weights(const Weight& gate, const Weight* up, const Weight& down, std::uint32_t count,
                             const Shared& shared) {
  ExpertWeights experts{&gate, up, &down, count, std::nullopt};
  if (shared) experts.shared = std::make_from_tuple<SharedExpert>(*shared);
  return experts;
}

Routes routes(Stage& stage, const array& chosen, DevicePtr<float> weights) {
  return {stage.integers(chosen), weights, static_cast<std::uint32_t>(chosen.shape(1)), {}};
}

// `act` is of the shared expert.
ExpertActs expert_acts(Stage& stage, const array& routed, const std::optional<array>& act) {
  return {stage.tensor(routed), act ? stage.tensor(*act) : Tensor{}};
}

void moe_gather(Device& device, const array& out, const array& h, const ExpertWeights& experts, const array& chosen,
                const std::optional<array>& act, const std::optional<array>& shared_gate) {
  Stage stage(*device.ops);
  Routes to = routes(stage, chosen, {});
  if (shared_gate) to.shared_gate = stage.tensor(*shared_gate);
  device.ops->moe_gather(expert_acts(stage, out, act), stage.tensor(h), experts, to);
  stage.fetch(out);
  if (act) stage.fetch(*act);
}

void moe_combine(Device& device, const array& x, const array& h, const ExpertWeights& experts, const array& chosen,
                 const array& weights, const std::optional<array>& act) {
  Stage stage(*device.ops);
  device.ops->moe_combine(stage.tensor(x), expert_acts(stage, h, act), experts,
                          routes(stage, chosen, stage.floats(weights)));
  stage.fetch(x);
}

void take_rows(Device& device, const array& out, const array& x, const std::vector<std::uint32_t>& rows) {
  Stage stage(*device.ops);
  const Tensor to = stage.tensor(out), from = stage.tensor(x);
  StepArrays step;
  step.tokens.resize(from.rows);
  step.positions.resize(from.rows);
  step.outputs = rows;
  run(device, {}, step, [&] { device.ops->take_rows(to, from); });
  stage.fetch(out);
}

void previous_rows(Device& device, const array& out, const array& x, const std::vector<Range>& ranges,
                   const std::vector<DeltaState*>& states) {
  Stage stage(*device.ops);
  const Tensor to = stage.tensor(out), from = stage.tensor(x);
  const StepArrays step = make_step(x.shape(0), ranges, {}, states, {});
  run(device, {}, step, [&] { device.ops->previous_rows(to, from); });
  stage.fetch(out);
}

void kept_rows(Device& device, const array& out, const std::vector<Range>& ranges,
               const std::vector<DeltaState*>& states) {
  Stage stage(*device.ops);
  const Tensor to = stage.tensor(out);
  const StepArrays step = make_step(out.shape(0), ranges, {}, states, {});
  run(device, {}, step, [&] { device.ops->kept_rows(to); });
  stage.fetch(out);
}

using Bytes = py::array_t<std::uint8_t, array::c_style>;

MatrixView encoded(const Bytes& data, const std::string& dtype, std::size_t rows, std::size_t cols) {
  const DTypeInfo* type = find_dtype(std::string_view(dtype));
  if (type == nullptr) throw InputError("no tensor type is named " + dtype);
  const MatrixView view{reinterpret_cast<const std::byte*>(data.data()), type->dtype, rows, cols};
  if (view.bytes() != static_cast<std::size_t>(data.size())) {
    throw InputError("expected " + std::to_string(view.bytes()) + " bytes, got " + std::to_string(data.size()));
  }
  return view;
}

std::unique_ptr<Weight> pack(Device& device, const Bytes& data, const std::string& dtype, std::size_t rows,
                             std::size_t cols, std::size_t groups) {
  return device.ops->pack(encoded(data, dtype, rows, cols), groups, {});
}

std::unique_ptr<Weight> pack_table(Device& device, const Bytes& data, const std::string& dtype, std::size_t rows,
                                   std::size_t cols) {
  return device.ops->pack_table(encoded(data, dtype, rows, cols), nullptr, {});
}

void bind_memory(py::module_& kernels) {
  py::class_<Weight>(kernels, "Weight")
      .def_property_readonly("rows", &Weight::rows)
      .def_property_readonly("cols", &Weight::cols)
      .def_property_readonly("n_bytes", &Weight::bytes);
  py::class_<ExpertWeights>(kernels, "Experts")
      .def(py::init(&expert_weights), py::arg("gate"), py::arg("up"), py::arg("down"), py::arg("count"),
           py::arg("shared") = py::none(), py::keep_alive<1, 2>(), py::keep_alive<1, 3>(), py::keep_alive<1, 4>(),
           py::keep_alive<1, 6>());
  py::class_<KvCache>(kernels, "KvCache")
      .def(py::init(
               [](Device& device, const std::string& format, const Range& shape, std::size_t pages, std::size_t blank) {
                 return std::make_unique<KvCache>(*device.ops, format, shape, pages, blank);
               }),
           py::arg("device"), py::arg("format"), py::arg("shape"), py::arg("pages"), py::arg("blank") = 0,
           py::keep_alive<1, 2>())
      .def("bytes", [](const KvCache& c, std::size_t page) { return c.bytes(PageForm::kPlain, page); })
      .def("quantised_bytes", [](const KvCache& c, std::size_t page) { return c.bytes(PageForm::kQuantised, page); });
  py::class_<DeltaState>(kernels, "DeltaState")
      .def(py::init([](Device& device, const std::vector<std::uint32_t>& shape, std::uint32_t uncertain,
                       std::size_t hidden, bool is_saved) {
             return std::make_unique<DeltaState>(*device.ops, delta_shape(shape), uncertain, hidden, is_saved);
           }),
           py::arg("device"), py::arg("shape"), py::arg("uncertain") = 0, py::arg("hidden") = 0,
           py::arg("is_saved") = false, py::keep_alive<1, 2>())
      .def("copy_from", &DeltaState::copy_from, py::arg("other"));
}

}  // namespace

void bind_device(py::module_& kernels) {
  py::class_<Device> device(kernels, "Device");
  bind_memory(kernels);
  device
      .def(py::init([](const std::string& name, unsigned threads) {
             return std::make_unique<Device>(Device{open(name, threads)});
           }),
           py::arg("name"), py::arg("threads") = 1)
      .def_property_readonly("name", [](const Device& d) { return d.ops->name(); })
      .def("pack", &pack, py::arg("data"), py::arg("dtype"), py::arg("rows"), py::arg("cols"), py::arg("groups") = 1,
           py::keep_alive<0, 1>())
      .def("pack_table", &pack_table, py::keep_alive<0, 1>())
      .def("embed", &embed, py::arg("out"), py::arg("table"), py::arg("tokens"),
           py::arg("inputs") = std::vector<std::pair<std::uint32_t, array>>())
      .def("rms_norm", &rms_norm)
      .def("matmul", &matmul)
      .def("normed_matmul", &normed_matmul)
      .def("matmul_add", &matmul_add)
      .def("swiglu", &swiglu)
      .def("gated_delta_net", &gated_delta_net, py::arg("out"), py::arg("qkv"), py::arg("z"), py::arg("a"),
           py::arg("b"), py::arg("parameters"), py::arg("shape"), py::arg("eps"), py::arg("ranges"), py::arg("states"),
           py::arg("commits") = Commits{})
      .def("norm_rope_append", &norm_rope_append, py::arg("q_gate"), py::arg("k"), py::arg("v"), py::arg("q_norm"),
           py::arg("k_norm"), py::arg("eps"), py::arg("inv_freq"), py::arg("magnitude"), py::arg("shape"),
           py::arg("ranges"), py::arg("caches"), py::arg("positions") = std::vector<std::array<std::int32_t, 3>>(),
           py::arg("sections") = std::array<std::uint32_t, 3>{11, 11, 10}, py::arg("commits") = Commits{},
           py::arg("attended") = py::none())
      .def("attend", &attend)
      .def("route", &route, py::arg("h"), py::arg("router"), py::arg("top_k"), py::arg("shared_gate") = py::none())
      .def("moe_gather", &moe_gather, py::arg("out"), py::arg("h"), py::arg("experts"), py::arg("chosen"),
           py::arg("act") = py::none(), py::arg("shared_gate") = py::none())
      .def("moe_combine", &moe_combine, py::arg("x"), py::arg("h"), py::arg("experts"), py::arg("chosen"),
           py::arg("weights"), py::arg("act") = py::none())
      .def("take_rows", &take_rows)
      .def("previous_rows", &previous_rows)
      .def("kept_rows", &kept_rows)
      .def("top_k", &top_k, py::arg("logits"), py::arg("k"), py::arg("edits"), py::arg("repetition") = 1.0,
           py::arg("presence") = 0.0, py::arg("frequency") = 0.0, py::arg("allowed") = std::vector<std::uint32_t>(),
           py::arg("log_sum") = false)
      .def("read_memory", [](Device& d, std::size_t bytes, unsigned n) { return d.ops->read_memory(bytes, n); })
      .def("multiply_int8", [](Device& d, unsigned n) { return d.ops->multiply_int8(n); });
  kernels.def("devices", &devices_here);
  kernels.def("possible_devices", &possible_devices);
}

}  // namespace qwen35
