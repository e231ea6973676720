// _core.kernels.Fake: a device without arithmetic, for tests of sequences, paging and errors.
#include <pybind11/stl.h>

#include <memory>
#include <tuple>
#include <utility>

#include "bindings/bindings.h"
#include "bindings/kernels.h"
#include "devices/fake/fake_backend.h"

namespace py = pybind11;

namespace qwen35 {

void bind_fake(py::module_& kernels) {
  using fake::Record;
  py::class_<Record, std::shared_ptr<Record>>(kernels, "Fake")
      .def(py::init<>())
      .def(
          "model",
          [](std::shared_ptr<Record> record, const py::object& file) {
            return load_on(std::make_unique<fake::FakeBackend>(std::move(record)), file);
          },
          py::arg("file"))
      .def("fail_allocation", &Record::fail_allocation, py::arg("n"))
      .def("fail_operation", &Record::fail_operation, py::arg("n"))
      .def_property_readonly("events",
                             [](const Record& record) {
                               py::list events;
                               for (const auto& [operation, layer, histories] : record.events()) {
                                 events.append(py::make_tuple(operation, layer, histories));
                               }
                               return events;
                             })
      .def("clear_events", &Record::clear_events)
      .def_property_readonly("buffers", [](const Record& record) { return record.buffers; })
      .def_property_readonly("pages", [](const Record& record) { return record.pages; })
      .def_property_readonly("saved_pages", [](const Record& record) { return record.saved_pages; })
      .def_property_readonly("slots", [](const Record& record) { return record.slots; });
}

}  // namespace qwen35
