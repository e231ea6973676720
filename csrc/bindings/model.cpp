#include "model/model.h"

#include <pybind11/stl.h>

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/processors.h"
#include "bindings/bindings.h"
#include "bindings/formats.h"
#include "bindings/input_rows.h"
#include "bindings/step.h"
#include "devices/open.h"
#include "sequence/sequence.h"
#include "sequence/snapshot.h"
#include "sequence/stepper.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

// How many threads a device uses is its own affair; Python is told what was asked for.
struct LoadedModel {
  std::shared_ptr<Model> model;
  std::shared_ptr<const GgufDirectory> directory;  // the file's, which is not needed any more
  unsigned threads;
};

// For the holder of the device.
Profile& profile_of(Backend& ops) {
  if (ops.profile() == nullptr) throw InputError("this model keeps no profile; load it with profile=True");
  return *ops.profile();
}

// Patterns that Python gives, kept until the model is loaded.
class PythonTensors {
 public:
  explicit PythonTensors(py::function give) : give_(std::move(give)) {}

  std::span<const std::byte> pattern(std::string_view name) {
    const py::gil_scoped_acquire acquire;
    const py::array bytes = give_(name);
    if (!py::isinstance<py::array_t<std::uint8_t>>(bytes) || (bytes.flags() & py::array::c_style) == 0) {
      throw InputError("the bytes of tensor '" + std::string(name) + "' are not a contiguous array of uint8");
    }
    kept_.push_back(bytes);
    return {static_cast<const std::byte*>(bytes.data()), static_cast<std::size_t>(bytes.nbytes())};
  }

 private:
  py::function give_;
  std::vector<py::array> kept_;
};

std::shared_ptr<LoadedModel> load(const py::object& file, const std::string& device, const py::int_& threads,
                                  const py::int_& context_tokens, const py::int_& drafts, const py::int_& draft_tokens,
                                  const RowCount& pass_rows, bool keeps_profile,
                                  const std::optional<py::function>& tensors) {
  const unsigned asked = to_threads(threads);
  const std::size_t context = to_count("context_tokens", context_tokens, 0);
  const Drafting drafting{.most = to_count("drafts", drafts, 0), .tokens = to_count("draft_tokens", draft_tokens, 1)};
  const std::size_t asked_rows = pass_rows ? to_count("pass_rows", *pass_rows, 1) : 0;
  if (pass_rows) check_step_rows(asked_rows);
  const auto opened = to_model_file(file, tensors ? GgufExtent::kHeader : GgufExtent::kWhole);
  std::optional<PythonTensors> given;  // let go of under the interpreter's lock
  if (tensors) given.emplace(*tensors);
  const py::gil_scoped_release release;
  const unsigned count = asked == 0 ? usable_threads() : asked;
  const DeviceId found = find_device(device);  // once: "auto" may be another device the next time
  const std::size_t rows = pass_rows ? asked_rows : found.kind->pass_rows().most;
  std::optional<RepeatedTensors> source;
  if (given) source.emplace([&](std::string_view name) { return given->pattern(name); });
  auto model = std::make_shared<Model>(*opened, found.kind->open(found.number, count), context, drafting, rows,
                                       source ? &*source : nullptr, check_signals);
  if (keeps_profile) model->lock_device().ops().keep_profile(model->weights().head);
  return std::make_shared<LoadedModel>(LoadedModel{std::move(model), opened->shared_directory(), count});
}

constexpr std::size_t kFakePassRows = 512;

}  // namespace

py::object load_on(std::unique_ptr<Backend> backend, const py::object& file) {
  const auto opened = to_model_file(file, GgufExtent::kWhole);
  auto model = std::make_shared<Model>(*opened, std::move(backend), 0, Drafting{.most = kMostUncertain}, kFakePassRows,
                                       nullptr, [] {});
  return py::cast(std::make_shared<LoadedModel>(LoadedModel{std::move(model), opened->shared_directory(), 1}));
}

namespace {

py::dict profile_dict(const LoadedModel& loaded) {
  py::dict times;
  const auto device = loaded.model->lock_device();
  for (const OperationTime& entry : profile_of(device.ops()).times()) {
    times[entry.name] = py::make_tuple(entry.calls, std::chrono::duration<double>(entry.time).count());
  }
  return times;
}

void reset_profile(const LoadedModel& loaded) {
  const auto device = loaded.model->lock_device();
  profile_of(device.ops()).reset();
}

py::dict config_dict(const LoadedModel& loaded) {
  const Model& model = *loaded.model;
  const Config& c = model.config();
  py::dict d;
  d["architecture"] = c.architecture;
  d["name"] = c.name;
  d["layers"] = c.layers;
  d["attention_layers"] = c.attention_layers();
  d["delta_layers"] = c.delta_layers();
  d["full_attention_interval"] = c.attention_interval;
  d["mtp_layers"] = c.mtp_layers;
  d["hidden"] = c.hidden;
  d["vocabulary"] = c.vocabulary;
  d["embeddings_are_tied"] = model.weights().is_tied;
  d["rms_eps"] = static_cast<double>(c.eps);
  d["heads"] = c.attention.heads;
  d["kv_heads"] = c.attention.kv_heads;
  d["head_width"] = c.attention.width;
  d["delta_key_heads"] = c.delta.key_heads;
  d["delta_value_heads"] = c.delta.value_heads;
  d["delta_key_width"] = c.delta.key_width;
  d["delta_value_width"] = c.delta.value_width;
  d["conv_taps"] = c.delta.conv_width;
  d["rope_width"] = c.rope.dims;
  d["rope_theta"] = c.rope.base;
  d["rope_factor"] = model.rope_table().factor;
  d["feed_forward"] = c.feed_forward;
  d["experts"] = c.moe ? c.moe->experts : 0U;
  d["experts_per_token"] = c.moe ? c.moe->top_k : 0U;
  d["expert_feed_forward"] = c.moe ? c.moe->width : std::size_t{0};
  d["shared_expert_feed_forward"] = c.moe ? c.moe->shared_width : std::size_t{0};
  d["context_tokens"] = c.context_tokens;
  return d;
}

void bind_loaded_model(py::module_& module) {
  py::class_<PackedTensor>(module, "WeightInfo", py::is_final())
      .def_readonly("name", &PackedTensor::name)
      .def_readonly("rows", &PackedTensor::rows)
      .def_readonly("cols", &PackedTensor::cols)
      .def_readonly("n_bytes", &PackedTensor::bytes);
  py::class_<LoadedModel, std::shared_ptr<LoadedModel>>(module, "Model", py::is_final())
      .def(py::init(&load), py::arg("file"), py::kw_only(), py::arg("device") = "auto", py::arg("threads") = 0,
           py::arg("context_tokens") = 0, py::arg("drafts") = 0, py::arg("draft_tokens") = kDraftTokens,
           py::arg("pass_rows") = py::none(), py::arg("profile") = false, py::arg("tensors") = py::none())
      .def_property_readonly("metadata", [](const LoadedModel& m) { return metadata_to_python(*m.directory); })
      .def_property_readonly("config", &config_dict)
      .def_property_readonly("was_mapped", [](const LoadedModel& m) { return m.model->was_mapped(); })
      .def_property_readonly("device", [](const LoadedModel& m) { return m.model->device(); })
      .def_property_readonly("state_layout", [](const LoadedModel& m) { return m.model->state_layout(); })
      .def_property_readonly("threads", [](const LoadedModel& m) { return m.threads; })
      .def_property_readonly("n_vocab", [](const LoadedModel& m) { return m.model->config().vocabulary; })
      .def_property_readonly("n_tokens_used", [](const LoadedModel& m) { return m.model->config().tokens_used; })
      .def_property_readonly("context_tokens", [](const LoadedModel& m) { return m.model->context_tokens(); })
      .def_property_readonly("drafts", [](const LoadedModel& m) { return m.model->drafts(); })
      .def_property_readonly("pass_rows", [](const LoadedModel& m) { return m.model->pass_rows(); })
      .def_property_readonly("weight_bytes", [](const LoadedModel& m) { return m.model->weights().bytes; })
      .def_property_readonly("launches", [](const LoadedModel& m) { return m.model->lock_device().ops().launches(); })
      .def_property_readonly("work_bytes",
                             [](const LoadedModel& m) { return m.model->lock_device().ops().work_bytes(); })
      .def_property_readonly("saved_page_bytes",
                             [](const LoadedModel& m) {
                               const py::gil_scoped_release release;
                               return m.model->lock_device().saved_page_bytes();
                             })
      .def_property_readonly("weights", [](const LoadedModel& m) { return m.model->weights().directory; })
      .def("profile", &profile_dict)
      .def("reset_profile", &reset_profile)
      .def(
          "step",
          [](const LoadedModel& m, const py::iterable& items, const RowCount& rows) {
            return step_items(*m.model, items, rows);
          },
          py::arg("items"), py::kw_only(), py::arg("rows") = py::none())
      .def(
          "draft", [](const LoadedModel& m, const py::iterable& items) { return draft_items(*m.model, items); },
          py::arg("items"))
      .def(
          "forward",
          [](const LoadedModel& m, const py::iterable& batch, const RowCount& chunk_tokens) {
            return forward_batch(*m.model, batch, chunk_tokens);
          },
          py::arg("batch"), py::kw_only(), py::arg("chunk_tokens") = py::none());
}

py::array_t<std::uint8_t> to_bytes(std::span<const std::byte> bytes) {
  return py::array_t<std::uint8_t>(static_cast<py::ssize_t>(bytes.size()),
                                   reinterpret_cast<const std::uint8_t*>(bytes.data()));
}

std::span<const std::byte> from_bytes(const py::handle& bytes) {
  if (!py::isinstance<py::array_t<std::uint8_t>>(bytes)) throw InputError("expected a page or an array of uint8");
  const auto array = py::reinterpret_borrow<py::array>(bytes);
  if (array.ndim() != 1 || (array.flags() & py::array::c_style) == 0) {
    throw InputError("expected a contiguous array of one dimension");
  }
  return {static_cast<const std::byte*>(array.data()), static_cast<std::size_t>(array.nbytes())};
}

// A page and, to read it, the model whose device it lies on.
struct PinnedPage {
  std::shared_ptr<Model> model;
  Page page;
  std::size_t tokens;  // that are in use

  std::size_t bytes() const { return page->bytes(); }
  py::array_t<std::uint8_t> data() const {
    std::vector<std::byte> copy(bytes());
    {
      const py::gil_scoped_release release;
      const auto device = model->lock_device();
      page->pool().download(copy.data(), page->page(), tokens);
    }
    return to_bytes(copy);
  }
};

std::shared_ptr<Snapshot> assemble(const LoadedModel& loaded, const std::string& kv, const py::object& tokens,
                                   const py::iterable& inputs, const py::sequence& pages, const py::object& state,
                                   const std::optional<py::int_>& committed) {
  std::vector<Snapshot::Part> parts;
  for (const py::handle page : pages) {
    if (py::isinstance<PinnedPage>(page)) {
      parts.emplace_back(py::cast<const PinnedPage&>(page).page);
    } else {
      parts.emplace_back(from_bytes(page));
    }
  }
  const auto delta = from_bytes(state);
  Content content(to_tokens(tokens), to_runs(inputs));
  const std::size_t certain = committed ? to_count("committed", *committed, 0) : content.size();
  const KvFormat format = to_kv_format(kv);
  const py::gil_scoped_release release;
  return Snapshot::assemble(loaded.model, format, std::move(content), certain, parts, delta);
}

void bind_snapshot(py::module_& module) {
  py::class_<PinnedPage>(module, "Page", py::is_final())
      .def_property_readonly("id", [](const PinnedPage& p) { return p.page->id(); })
      .def_property_readonly("n_bytes", &PinnedPage::bytes)
      .def("data", &PinnedPage::data);
  py::class_<Snapshot, std::shared_ptr<Snapshot>>(module, "Snapshot", py::is_final())
      .def_property_readonly("kv", [](const Snapshot& s) { return kv_name(s.format()); })
      .def_property_readonly("pages",
                             [](const Snapshot& s) {
                               py::list pages;
                               for (auto& [page, tokens] : s.parts()) {
                                 pages.append(PinnedPage{s.shared_model(), std::move(page), tokens});
                               }
                               return pages;
                             })
      .def("state",
           [](const Snapshot& s) {
             std::vector<std::byte> bytes;
             {
               const py::gil_scoped_release release;
               bytes = s.state_bytes();
             }
             return to_bytes(bytes);
           })
      .def_static("assemble", &assemble, py::arg("model"), py::kw_only(), py::arg("kv"), py::arg("tokens"),
                  py::arg("inputs") = py::tuple(), py::arg("pages"), py::arg("state"),
                  py::arg("committed") = py::none())
      .def("__len__", [](const Snapshot& s) { return s.content().size(); })
      .def_property_readonly("committed", &Snapshot::committed)
      .def_property_readonly("n_bytes", &Snapshot::bytes)
      .def_property_readonly("tokens", [](const Snapshot& s) { return to_array(s.content().tokens()); })
      .def_property_readonly("inputs", [](const Snapshot& s) { return from_runs(s.content().runs()); })
      .def_property_readonly("rope_delta", [](const Snapshot& s) { return s.content().rope_delta(); });
}

void bind_sequence(py::module_& module) {
  using Release = py::call_guard<py::gil_scoped_release>;
  py::class_<Sequence, std::shared_ptr<Sequence>>(module, "Sequence", py::is_final())
      .def(py::init([](const LoadedModel& loaded, const py::int_& context_tokens, const std::string& kv) {
             const std::size_t context = to_count("context_tokens", context_tokens, 0);
             const KvFormat format = to_kv_format(kv);
             const py::gil_scoped_release release;
             return std::make_shared<Sequence>(loaded.model, context, format);
           }),
           py::arg("model"), py::kw_only(), py::arg("context_tokens") = 0, py::arg("kv") = "f16")
      .def("__len__", &Sequence::size)
      .def_property_readonly("tokens", [](Sequence& s) { return to_array(s.tokens()); })
      .def_property_readonly("inputs", [](Sequence& s) { return from_runs(s.inputs()); })
      .def_property_readonly("rope_delta", &Sequence::rope_delta)
      .def_property_readonly("context_tokens", &Sequence::context_tokens)
      .def_property_readonly("pass_rows", [](const Sequence& s) { return s.model().pass_rows(); })
      .def_property_readonly("state_bytes", &Sequence::state_bytes)
      .def("append", &append, py::arg("tokens"), py::kw_only(), py::arg("inputs") = py::tuple(),
           py::arg("logits") = "last", py::arg("uncertain") = 0, py::arg("chunk_tokens") = py::none())
      .def("step", &step_alone, py::arg("tokens"), py::kw_only(), py::arg("inputs") = py::tuple(),
           py::arg("logits") = "none", py::arg("hidden") = "none", py::arg("sampler") = py::none(),
           py::arg("logprobs") = py::none(), py::arg("uncertain") = 0, py::arg("rows") = py::none())
      .def_property_readonly("committed", &Sequence::committed)
      .def(
          "rewind",
          [](Sequence& s, const py::int_& n) {
            const std::size_t length = to_count("n", n, 0);
            const py::gil_scoped_release release;
            s.rewind(length);
          },
          py::arg("n"))
      .def("snapshot", &Sequence::snapshot, Release())
      .def("restore", &Sequence::restore, py::arg("snapshot"), Release())
      .def("fork", &Sequence::fork, Release())
      .def(
          "truncate",
          [](Sequence& s, const py::int_& n) {
            const std::size_t length = to_count("n", n, 0);
            const py::gil_scoped_release release;
            return s.truncate(length, s.model().pass_rows(), check_signals);
          },
          py::arg("n"))
      .def("cancel", &Sequence::cancel);
}

}  // namespace

void bind_model(py::module_& module) {
  bind_input_rows(module);
  bind_loaded_model(module);
  bind_snapshot(module);
  bind_sequence(module);
  bind_step(module);
}

}  // namespace qwen35
