// Devices in Python: which there are and what memory they have.
#include <pybind11/pybind11.h>

#include <string>

#include "bindings/bindings.h"
#include "devices/open.h"

namespace py = pybind11;

namespace qwen35 {

void bind_devices(py::module_& module) {
  py::class_<DeviceMemory>(module, "DeviceMemory", py::is_final())
      .def_readonly("free", &DeviceMemory::free)
      .def_readonly("total", &DeviceMemory::total)
      .def_readonly("is_host", &DeviceMemory::is_host);
  module.def("devices", [] {
    py::dict absences;
    for (const DeviceKind* kind : device_kinds()) {
      const std::string absence = kind->absence();
      absences[kind->name()] = absence.empty() ? py::object(py::none()) : py::object(py::str(absence));
    }
    return absences;
  });
  module.def(
      "device_memory", [](const std::string& device) { return find_device(device).memory(); },
      py::arg("device") = "auto");
}

}  // namespace qwen35
