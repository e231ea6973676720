// Devices in Python: which there are, what memory they have, and what a described model takes of one.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

#include "base/error.h"
#include "bindings/bindings.h"
#include "bindings/formats.h"
#include "devices/open.h"
#include "devices/trust.h"
#include "model/activations.h"
#include "model/model.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

constexpr std::size_t kMostCount = std::size_t{1} << 31;  // far beyond any model, and products of two do not overflow

std::size_t bounded(const char* name, const py::int_& value, long long least) {
  const std::size_t count = to_count(name, value, least);
  if (count > kMostCount) {
    throw InputError(std::string(name) + " is " + std::to_string(count) + ", expected at most " +
                     std::to_string(kMostCount));
  }
  return count;
}

// A shape under the names of Model.config.
class Numbers {
 public:
  explicit Numbers(const py::dict& values) : values_(values) {}

  std::size_t at(const char* name, long long least) const {
    if (!values_.contains(name)) throw InputError(std::string("a model's shape needs \"") + name + "\"");
    return bounded(name, py::int_(values_[name]), least);
  }
  std::uint32_t at32(const char* name, long long least) const { return static_cast<std::uint32_t>(at(name, least)); }

 private:
  const py::dict& values_;
};

ModelShape to_shape(const py::dict& values) {
  const Numbers numbers(values);
  ModelShape shape;
  shape.layers = numbers.at("layers", 1);
  shape.mtp_layers = numbers.at("mtp_layers", 0);
  shape.attention_interval = numbers.at("full_attention_interval", 1);
  shape.hidden = numbers.at("hidden", 1);
  shape.vocabulary = numbers.at("vocabulary", 0);
  shape.attention = {numbers.at32("heads", 1), numbers.at32("kv_heads", 1), numbers.at32("head_width", 1)};
  shape.delta = {numbers.at32("delta_key_heads", 1), numbers.at32("delta_value_heads", 1),
                 numbers.at32("delta_key_width", 1), numbers.at32("delta_value_width", 1),
                 numbers.at32("conv_taps", 1)};
  if (const std::uint32_t experts = numbers.at32("experts", 0); experts > 0) {
    shape.moe = ExpertShape{experts, numbers.at32("experts_per_token", 1), numbers.at("expert_feed_forward", 1),
                            numbers.at("shared_expert_feed_forward", 0)};
  } else {
    shape.feed_forward = numbers.at("feed_forward", 0);
  }
  return shape;
}

MatrixShape to_matrix(const py::handle& entry) {
  const auto [type, rows, cols, parts] = py::cast<std::tuple<std::string, py::int_, py::int_, py::int_>>(entry);
  return {named_type(type).dtype, bounded("rows", rows, 1), bounded("cols", cols, 1), bounded("parts", parts, 1)};
}

class DescribedModel {
 public:
  DescribedModel(const py::dict& shape, const py::iterable& weights, const std::string& device, const py::int_& threads)
      : device_(device_named(device)), shape_(to_shape(shape)), threads_(to_threads(threads)) {
    for (const py::handle weight : weights) {
      weights_.push_back(to_matrix(weight));
      weight_bytes_.push_back(kind().weight_bytes(weights_.back()));
    }
  }

  const DeviceKind& kind() const noexcept { return *device_.kind; }
  std::string name() const { return device_.name(); }
  const std::vector<std::size_t>& weight_bytes() const noexcept { return weight_bytes_; }

  py::dict parts(const py::int_& context_tokens, const std::string& kv, const py::int_& rows,
                 const py::int_& drafts) const {
    const Workload work{.context_tokens = bounded("context_tokens", context_tokens, 1),
                        .kv = to_kv_format(kv),
                        .rows = bounded("rows", rows, 1),
                        .uncertain = check_drafts(bounded("drafts", drafts, 0)),
                        .threads = threads_};
    const Footprint found = kind().footprint(shape_, weights_, work);
    py::dict parts;
    parts["kv"] = found.kv;
    parts["kv_token"] = found.kv_token;
    parts["draft_kv"] = found.draft_kv;
    parts["state"] = found.state;
    parts["snapshot"] = found.snapshot;
    parts["snapshot_host"] = found.snapshot_host;
    parts["activations"] = activation_bytes(shape_, work.rows, 1, shape_.drafts(work.uncertain));
    parts["work"] = found.work;
    parts["work_host"] = found.work_host;
    parts["unused"] = found.unused;
    parts["program"] = found.program;
    return parts;
  }

 private:
  DeviceId device_;
  ModelShape shape_;
  unsigned threads_;
  std::vector<MatrixShape> weights_;
  std::vector<std::size_t> weight_bytes_;
};

// What there is of a device that is here.
struct Available {
  std::string device;
  DeviceMemory memory;
  bool is_host;
};

// Why a device is not used, and of each operation of its self-check: its name, difference, what is expected at most,
// seconds, error, and whether it passes.
py::tuple self_check_of(const std::string& name) {
  const DeviceId device = device_named(name);
  py::list rows;
  if (const std::string missing = device.kind->absence(device.number); !missing.empty()) {
    return py::make_tuple(missing, rows);
  }
  const Trust found = trust(device);
  for (const CheckedOperation& one : found.operations) {
    rows.append(py::make_tuple(one.name, one.difference, one.expected, one.seconds, one.error, one.passes()));
  }
  return py::make_tuple(found.failure, rows);
}

}  // namespace

void bind_devices(py::module_& module) {
  py::class_<Available>(module, "DeviceMemory", py::is_final())
      .def_readonly("device", &Available::device)
      .def_property_readonly("cache", [](const Available& a) { return a.memory.cache; })
      .def_property_readonly("free", [](const Available& a) { return a.memory.free; })
      .def_property_readonly("total", [](const Available& a) { return a.memory.total; })
      .def_readonly("is_host", &Available::is_host);
  module.def("devices", [] {
    py::dict absences;
    for (const DeviceKind* kind : device_kinds()) {
      const std::string absence = DeviceId{kind, 0}.absence();
      absences[kind->name()] = absence.empty() ? py::object(py::none()) : py::object(py::str(absence));
    }
    return absences;
  });
  module.def(
      "device_facts",
      [](const std::string& device) {
        const DeviceId found = device_named(device);
        return found.number < found.kind->count() ? found.kind->device_facts(found.number) : Facts();
      },
      py::arg("device"));
  module.def(
      "kind_facts", [](const std::string& device) { return device_named(device).kind->facts(); }, py::arg("device"));
  module.def(
      "count_devices", [](const std::string& device) { return device_named(device).kind->count(); }, py::arg("device"));
  module.def("absence", [](const std::string& device) { return device_named(device).absence(); }, py::arg("device"));
  module.def("self_check", &self_check_of, py::arg("device"));
  module.def(
      "device_memory",
      [](const std::string& device) {
        const DeviceId found = find_device(device);
        return Available{found.name(), found.memory(), found.kind->uses_host_memory()};
      },
      py::arg("device") = "auto");
  py::class_<DescribedModel>(module, "Footprint", py::is_final())
      .def(py::init<const py::dict&, const py::iterable&, const std::string&, const py::int_&>(), py::arg("shape"),
           py::arg("weights"), py::kw_only(), py::arg("device") = "auto", py::arg("threads") = 0)
      .def_property_readonly("device", &DescribedModel::name)
      .def_property_readonly("uses_host_memory", [](const DescribedModel& m) { return m.kind().uses_host_memory(); })
      .def_property_readonly("page_tokens", [](const DescribedModel&) { return kPageTokens; })
      .def_property_readonly("pass_rows",
                             [](const DescribedModel& m) {
                               const PassRows rows = m.kind().pass_rows();
                               return py::make_tuple(rows.most, rows.least);
                             })
      .def_property_readonly("weight_bytes", &DescribedModel::weight_bytes)
      .def("parts", &DescribedModel::parts, py::arg("context_tokens"), py::arg("kv"), py::kw_only(), py::arg("rows"),
           py::arg("drafts") = 0);
}

}  // namespace qwen35
