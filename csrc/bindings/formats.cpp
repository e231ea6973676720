// Python bindings of the formats: GGUF files, block decoding and encoding.
#include "bindings/formats.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>
#include <pybind11/stl/filesystem.h>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "dialect/model_file.h"
#include "tensor/blocks.h"
#include "tensor/encode.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using Floats = py::array_t<float, py::array::c_style>;
using Bytes = py::array_t<std::uint8_t, py::array::c_style>;

// A new reference, or an exception: what the C API hands out.
PyObject* owned(PyObject* object) {
  if (object == nullptr) throw py::error_already_set();
  return object;
}

// Validated as UTF-8 when the file was opened.
PyObject* text(std::string_view s) {
  return owned(PyUnicode_DecodeUTF8(s.data(), static_cast<Py_ssize_t>(s.size()), nullptr));
}

PyObject* element(const GgufValue& value, std::uint64_t i) {
  switch (value.type()) {
    case GgufType::kBool:
      return owned(PyBool_FromLong(value.boolean(i) ? 1 : 0));
    case GgufType::kF32:
    case GgufType::kF64:
      return owned(PyFloat_FromDouble(value.real(i)));
    case GgufType::kI8:
    case GgufType::kI16:
    case GgufType::kI32:
    case GgufType::kI64:
      return owned(PyLong_FromLongLong(value.integer(i)));
    default:
      return owned(PyLong_FromUnsignedLongLong(value.uint(i)));
  }
}

// Lists are filled through the C API: a vocabulary has half a million strings.
py::object to_python(const GgufValue& value) {
  const bool strings = value.type() == GgufType::kString;
  if (!value.is_array()) return py::reinterpret_steal<py::object>(strings ? text(value.string()) : element(value, 0));
  auto list = py::reinterpret_steal<py::object>(owned(PyList_New(static_cast<Py_ssize_t>(value.size()))));
  Py_ssize_t i = 0;
  if (strings) {
    for (const std::string_view s : value.strings()) PyList_SET_ITEM(list.ptr(), i++, text(s));
  } else {
    for (std::uint64_t k = 0; k < value.size(); ++k) PyList_SET_ITEM(list.ptr(), i++, element(value, k));
  }
  return list;
}

py::tuple numpy_shape(const GgufTensor& tensor) {
  py::tuple shape(tensor.shape.size());
  for (std::size_t i = 0; i < tensor.shape.size(); ++i) shape[tensor.shape.size() - 1 - i] = tensor.shape[i];
  return shape;
}

struct TensorInfo {
  std::string name;
  std::string dtype;
  py::tuple shape;
  std::size_t n_bytes;
  std::string path;
  std::uint64_t offset;
};

class GgufFile {
 public:
  GgufFile(const std::filesystem::path& path, bool is_header) {
    const py::gil_scoped_release release;
    file_ = std::make_shared<const ModelFile>(path, is_header ? GgufExtent::kHeader : GgufExtent::kWhole);
  }

  const std::shared_ptr<const ModelFile>& file() const { return file_; }
  const Gguf& gguf() const { return file_->file(); }

  // Converted once; each caller gets a new dict with the same values.
  py::dict metadata() {
    if (!metadata_) metadata_ = metadata_to_python(file_->directory());
    return py::reinterpret_steal<py::dict>(owned(PyDict_Copy(metadata_.ptr())));
  }

  py::list list(std::span<const GgufTensor> tensors) const {
    py::list list;
    for (const GgufTensor& t : tensors) {
      const auto& path = gguf().files()[t.part]->path();
      list.append(TensorInfo{std::string(t.name), t.type_name(), numpy_shape(t), t.bytes, path.string(), t.offset});
    }
    return list;
  }

  py::list paths() const {
    py::list list;
    for (const auto& file : gguf().files()) list.append(py::str(py::cast(file->path())));
    return list;
  }

  py::array_t<std::uint8_t> bytes(const std::string& name) const {
    const GgufTensor& tensor = this->tensor(name);
    py::array_t<std::uint8_t> encoded(static_cast<py::ssize_t>(tensor.bytes));
    auto* to = reinterpret_cast<std::byte*>(encoded.mutable_data());
    const py::gil_scoped_release release;
    gguf().read(tensor, 0, to, tensor.bytes);
    return encoded;
  }

  void read_into(const std::string& name, std::size_t begin, Bytes& out) const {
    const GgufTensor& tensor = this->tensor(name);
    const auto n = static_cast<std::size_t>(out.size());
    if (begin > tensor.bytes || n > tensor.bytes - begin) {
      throw InputError("tensor '" + name + "' has " + std::to_string(tensor.bytes) + " bytes; asked for are " +
                       std::to_string(n) + " from " + std::to_string(begin) + " on");
    }
    auto* to = reinterpret_cast<std::byte*>(out.mutable_data());
    const py::gil_scoped_release release;
    gguf().read(tensor, begin, to, n);
  }

  py::array_t<float> decode(const std::string& name) const {
    const GgufTensor& tensor = this->tensor(name);
    const MatrixView matrix = tensor.matrix();
    const std::vector<py::ssize_t> shape(tensor.shape.rbegin(), tensor.shape.rend());
    py::array_t<float> values(shape);
    float* to = values.mutable_data();
    const py::gil_scoped_release release;
    std::vector<std::byte> encoded(tensor.bytes);
    gguf().read(tensor, 0, encoded.data(), encoded.size());
    qwen35::decode(matrix.dtype, encoded.data(), to, matrix.rows * matrix.cols);
    return values;
  }

  py::bytes fingerprint() const {
    if (gguf().extent() == GgufExtent::kHeader) throw InputError(header_only("the tensors"));
    std::string text;
    {
      const py::gil_scoped_release release;
      text = gguf().fingerprint();
    }
    return text;
  }

 private:
  static std::string header_only(const std::string& what) {
    return "opened with header=True: the bytes of " + what + " are not read";
  }

  // One whose bytes are there.
  const GgufTensor& tensor(const std::string& name) const {
    const GgufTensor& found = file_->tensor(name);
    if (gguf().extent() == GgufExtent::kHeader) throw InputError(header_only("'" + name + "'"));
    return found;
  }

  std::shared_ptr<const ModelFile> file_;
  py::object metadata_;
};

py::dict block_types() {
  py::dict types;
  for (const DTypeInfo& type : dtypes()) types[type.name] = py::make_tuple(type.block, type.block_bytes);
  return types;
}

py::array_t<float> decode_bytes(const Bytes& data, const std::string& dtype, py::ssize_t n_values) {
  const DTypeInfo& type = named_type(dtype);
  const auto n = static_cast<std::size_t>(n_values);
  const auto given = static_cast<std::size_t>(data.size());
  // Compared by division: n may be anything.
  if (n_values < 0 || n % type.block != 0 || given % type.block_bytes != 0 ||
      n / type.block != given / type.block_bytes) {
    throw InputError("decode: " + std::to_string(given) + " bytes are not " + std::to_string(n_values) + " values of " +
                     type.name + " (" + std::to_string(type.block) + " values in " + std::to_string(type.block_bytes) +
                     " bytes)");
  }
  py::array_t<float> values(n_values);
  float* to = values.mutable_data();
  const auto* from = reinterpret_cast<const std::byte*>(data.data());
  py::gil_scoped_release release;
  decode(type.dtype, from, to, n);
  return values;
}

py::array_t<std::uint8_t> encode_values(const Floats& values, const std::string& dtype,
                                        const std::optional<Floats>& importance, py::ssize_t threads) {
  const DTypeInfo& type = named_type(dtype);
  if (values.ndim() < 1) throw InputError("encode: expected an array [rows, cols], got a single number");
  const py::ssize_t cols = values.shape(values.ndim() - 1);
  if (importance && (importance->ndim() != 1 || importance->shape(0) != cols)) {
    throw InputError("encode: importance must hold one weight for each of the " + std::to_string(cols) + " columns");
  }
  constexpr py::ssize_t kMaxThreads = 1024;
  if (threads < 0 || threads > kMaxThreads) {
    throw InputError("encode: threads is " + std::to_string(threads) + "; 0 (all) to 1024 are allowed");
  }
  if (cols % type.block != 0) {
    throw InputError("encode " + dtype + ": rows of " + std::to_string(cols) + " values are not whole blocks of " +
                     std::to_string(type.block));
  }
  std::vector<py::ssize_t> shape(values.shape(), values.shape() + values.ndim());
  shape.back() = cols / static_cast<py::ssize_t>(type.block) * static_cast<py::ssize_t>(type.block_bytes);
  py::array_t<std::uint8_t> encoded(shape);
  const std::size_t rows = cols == 0 ? 0 : static_cast<std::size_t>(values.size() / cols);
  const float* from = values.data();
  const float* weights = importance ? importance->data() : nullptr;
  auto* to = reinterpret_cast<std::byte*>(encoded.mutable_data());
  py::gil_scoped_release release;
  encode(type.dtype, from, rows, static_cast<std::size_t>(cols), weights, to, static_cast<unsigned>(threads));
  return encoded;
}

void translate_system_errors(std::exception_ptr error) {
  try {
    if (error) std::rethrow_exception(error);
  } catch (const std::filesystem::filesystem_error& e) {
    // OSError(errno, text, path) becomes FileNotFoundError and its like by itself.
    const int code = e.code().default_error_condition().value();
    const py::tuple args = py::make_tuple(code, e.code().message(), py::cast(e.path1()).attr("__str__")());
    PyErr_SetObject(PyExc_OSError, args.ptr());
  }
}

}  // namespace

const DTypeInfo& named_type(const std::string& name) {
  if (const DTypeInfo* type = find_dtype(std::string_view(name))) return *type;
  std::string known;
  for (const DTypeInfo& type : dtypes()) known += (known.empty() ? "" : ", ") + std::string(type.name);
  throw InputError("no tensor type '" + name + "'; known are " + known);
}

}  // namespace qwen35

std::shared_ptr<const qwen35::ModelFile> to_model_file(const py::object& file, qwen35::GgufExtent extent) {
  if (py::isinstance<qwen35::GgufFile>(file)) return file.cast<const qwen35::GgufFile&>().file();
  const auto path = file.cast<std::filesystem::path>();
  const py::gil_scoped_release release;
  return std::make_shared<const qwen35::ModelFile>(path, extent);
}

py::dict metadata_to_python(const qwen35::GgufDirectory& directory) {
  py::dict values;
  for (const qwen35::GgufValue& value : directory.metadata()) {
    const auto key = py::reinterpret_steal<py::object>(qwen35::text(value.key()));
    values[key] = qwen35::to_python(value);
  }
  return values;
}

void bind_formats(py::module_& module) {
  using namespace qwen35;
  py::register_exception_translator(translate_system_errors);

  py::class_<TensorInfo>(module, "TensorInfo", py::is_final())
      .def_readonly("name", &TensorInfo::name)
      .def_readonly("dtype", &TensorInfo::dtype)
      .def_readonly("shape", &TensorInfo::shape)
      .def_readonly("n_bytes", &TensorInfo::n_bytes)
      .def_readonly("path", &TensorInfo::path)
      .def_readonly("offset", &TensorInfo::offset);

  py::class_<GgufFile>(module, "GgufFile", py::is_final())
      .def(py::init<const std::filesystem::path&, bool>(), py::arg("path"), py::kw_only(), py::arg("header") = false)
      .def_property_readonly("version", [](const GgufFile& file) { return file.gguf().version(); })
      .def_property_readonly("paths", &GgufFile::paths)
      .def_property_readonly("n_bytes", [](const GgufFile& file) { return file.gguf().size(); })
      .def_property_readonly("metadata", &GgufFile::metadata)
      .def_property_readonly("tensors", [](const GgufFile& f) { return f.list(f.file()->directory().tensors()); })
      .def_property_readonly("vision", [](const GgufFile& f) { return f.list(f.file()->vision()); })
      .def_property_readonly("broken_mtp", [](const GgufFile& f) { return f.list(f.file()->broken_mtp()); })
      .def_property_readonly("kind", [](const GgufFile& f) { return f.file()->kind(); })
      .def_property_readonly("refusal",
                             [](const GgufFile& f) {
                               const std::string& refusal = f.file()->refusal();
                               return refusal.empty() ? std::nullopt : std::optional(refusal);
                             })
      .def_property_readonly("notices",
                             [](const GgufFile& f) {
                               const auto notices = f.file()->notices();
                               return std::vector<std::string>(notices.begin(), notices.end());
                             })
      .def("tensor", &GgufFile::bytes, py::arg("name"))
      .def("read_into", &GgufFile::read_into, py::arg("name"), py::arg("begin"), py::arg("out").noconvert())
      .def("fingerprint", &GgufFile::fingerprint)
      .def("decode", &GgufFile::decode, py::arg("name"));

  module.def("block_types", &block_types);
  module.def("decode", &decode_bytes, py::arg("data"), py::arg("dtype"), py::arg("n_values"));
  module.def("encode", &encode_values, py::arg("values"), py::arg("dtype"), py::kw_only(),
             py::arg("importance") = py::none(), py::arg("threads") = 0);
}
