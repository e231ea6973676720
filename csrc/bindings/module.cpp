#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstring>
#include <exception>
#include <limits>
#include <new>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/processors.h"
#include "bindings/bindings.h"
#include "bindings/formats.h"
#include "bindings/kernels.h"
#include "devices/cpu/isa.h"
#include "devices/open.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

constexpr const char* kVersion = "0.1.0";  // tests/model holds it against the package's own

Token to_token(const py::handle& value) {
  const py::object index = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!index) throw py::error_already_set();
  int overflow = 0;
  const long long id = PyLong_AsLongLongAndOverflow(index.ptr(), &overflow);
  if (overflow != 0 || id < 0 || id > std::numeric_limits<Token>::max()) {
    throw InputError("token " + py::str(index).cast<std::string>() + " is not a token id");
  }
  return static_cast<Token>(id);
}

// The class of qwen35_local.errors that stands for one of base/error.h, of the same name.
py::object python_error(const char* name) { return py::module_::import("qwen35_local.errors").attr(name); }

// A message names paths, which need not be UTF-8: other bytes come as in `os.fsdecode`.
void set_python_error(const char* name, const char* message) {
  const py::object error = python_error(name);
  const auto text = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(message, static_cast<Py_ssize_t>(std::strlen(message)), "surrogateescape"));
  if (text) PyErr_SetObject(error.ptr(), text.ptr());
}

// The most derived classes first. std::bad_alloc is where memory runs out beside the device's: in the core's own
// tables, and for what is handed to Python.
void raise_in_python(std::exception_ptr thrown) {
  try {
    std::rethrow_exception(std::move(thrown));
  } catch (const FormatError& error) {
    set_python_error("FormatError", error.what());
  } catch (const InputError& error) {
    set_python_error("InputError", error.what());
  } catch (const DeviceError& error) {
    set_python_error("DeviceError", error.what());
  } catch (const OutOfMemory& error) {
    set_python_error("OutOfMemory", error.what());
  } catch (const Unavailable& error) {
    set_python_error("Unavailable", error.what());
  } catch (const Cancelled& error) {
    set_python_error("Cancelled", error.what());
  } catch (const Error& error) {
    set_python_error("Qwen35Error", error.what());
  } catch (const std::bad_alloc&) {
    set_python_error("OutOfMemory", "the system has no memory left; take fewer context_tokens, or close programs");
  }
}

void bind_isas(py::module_& module) {
  module.def("isa", [] { return cpu::isa_name(cpu::chosen_isa()); });
  module.def("available_isas", [] {
    py::list names;
    for (const cpu::Isa isa : cpu::available_isas()) names.append(cpu::isa_name(isa));
    return names;
  });
}

// Repetitions of a measurement: enough for any patience.
unsigned to_repetitions(const py::int_& value) {
  return static_cast<unsigned>(std::min<std::size_t>(to_count("repetitions", value, 1), 1000));
}

// What a device can do at most.
void bind_machine(py::module_& module) {
  module.def("usable_threads", &usable_threads);
  py::class_<MeasuredRate>(module, "MeasuredRate", py::is_final())
      .def_readonly("count", &MeasuredRate::count)
      .def_readonly("seconds", &MeasuredRate::seconds)
      .def_property_readonly("per_second", &MeasuredRate::per_second);
  module.def(
      "read_memory",
      [](const py::int_& n_bytes, const std::string& device, const py::int_& threads, const py::int_& repetitions) {
        const std::size_t bytes = to_count("n_bytes", n_bytes, 1);
        const unsigned team = to_threads(threads), times = to_repetitions(repetitions);
        const py::gil_scoped_release release;
        return open_backend(device, team)->read_memory(bytes, times);
      },
      py::arg("n_bytes"), py::kw_only(), py::arg("device") = "auto", py::arg("threads") = 0,
      py::arg("repetitions") = 5);
  module.def(
      "multiply_int8",
      [](const std::string& device, const py::int_& threads, const py::int_& repetitions) {
        const unsigned team = to_threads(threads), times = to_repetitions(repetitions);
        const py::gil_scoped_release release;
        return open_backend(device, team)->multiply_int8(times);
      },
      py::kw_only(), py::arg("device") = "auto", py::arg("threads") = 0, py::arg("repetitions") = 5);
}

}  // namespace

std::vector<Token> to_tokens(const py::handle& tokens) {
  if (py::isinstance<py::array_t<Token>>(tokens)) {
    const auto array = py::array_t<Token, py::array::c_style>::ensure(tokens);
    if (array.ndim() != 1) throw InputError("tokens have " + std::to_string(array.ndim()) + " dimensions, expected 1");
    return {array.data(), array.data() + array.size()};
  }
  std::vector<Token> ids;
  for (const py::handle value : tokens) ids.push_back(to_token(value));
  return ids;
}

py::array_t<Token> to_array(std::span<const Token> tokens) {
  return py::array_t<Token>(static_cast<py::ssize_t>(tokens.size()), tokens.data());
}

std::size_t to_count(const char* name, const py::int_& value, long long least) {
  int overflow = 0;
  const long long count = PyLong_AsLongLongAndOverflow(value.ptr(), &overflow);
  if (overflow != 0 || count < least) {
    throw InputError(std::string(name) + " is " + py::str(value).cast<std::string>() + ", expected at least " +
                     std::to_string(least));
  }
  return count < 0 ? std::numeric_limits<std::size_t>::max() : static_cast<std::size_t>(count);
}

namespace {

constexpr const char* kKvNames[] = {"f32", "f16", "q8", "q4", "k8v4"};

}  // namespace

KvFormat to_kv_format(const std::string& name) {
  for (std::size_t i = 0; i < std::size(kKvNames); ++i) {
    if (name == kKvNames[i]) return static_cast<KvFormat>(i);
  }
  throw InputError("kv is \"" + name + "\", expected f32, f16, q8, q4 or k8v4");
}

const char* kv_name(KvFormat format) noexcept { return kKvNames[static_cast<std::size_t>(format)]; }

unsigned to_threads(const py::int_& value) {
  constexpr std::size_t kMostThreads = 1024;
  const std::size_t threads = to_count("threads", value, 0);
  if (threads > kMostThreads) {
    throw InputError("threads is " + std::to_string(threads) + ", expected at most " + std::to_string(kMostThreads));
  }
  return static_cast<unsigned>(threads);
}

}  // namespace qwen35

PYBIND11_MODULE(_core, module) {
  module.doc() = "Tokens in, logits and tokens out. See _core.pyi.";
  module.attr("__version__") = qwen35::kVersion;
  pybind11::register_exception_translator(&qwen35::raise_in_python);
  qwen35::bind_isas(module);
  qwen35::bind_machine(module);
  qwen35::bind_devices(module);
  bind_formats(module);
  pybind11::module_ kernels = module.def_submodule("kernels", "Every operation on any device, for tests.");
  qwen35::bind_device(kernels);
  qwen35::bind_cpu_kernels(kernels);
  qwen35::bind_fake(kernels);
  qwen35::bind_gemm(kernels);
  qwen35::bind_model(module);
  qwen35::bind_calibration(module);
  qwen35::bind_sampler(module);
  qwen35::bind_quantise(module);
}
