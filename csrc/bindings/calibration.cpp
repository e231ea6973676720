// Python bindings of calibration: layers of a model, texts through them, and the moments of what their matrices see.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/processors.h"
#include "bindings/bindings.h"
#include "bindings/formats.h"
#include "bindings/step.h"
#include "calibration/layer_pass.h"
#include "calibration/moments.h"
#include "devices/open.h"
#include "quantise/gram.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

using Rows = py::array_t<float, py::array::c_style>;
using Texts = py::array_t<Token, py::array::c_style>;

// Tensors whose encoded bytes Python makes, one at a time.
class MadeTensors final : public TensorSource {
 public:
  explicit MadeTensors(py::function make) : make_(std::move(make)) {}

  const std::byte* take(const GgufTensor& tensor) override {
    const py::gil_scoped_acquire acquire;
    made_ = py::array();
    made_ = make_(std::string(tensor.name));
    if (!py::isinstance<py::array_t<std::uint8_t>>(made_) || (made_.flags() & py::array::c_style) == 0 ||
        static_cast<std::size_t>(made_.nbytes()) != tensor.bytes) {
      throw InputError("tensor '" + std::string(tensor.name) + "' is not a contiguous array of uint8 of its " +
                       std::to_string(tensor.bytes) + " bytes");
    }
    return static_cast<const std::byte*>(made_.data());
  }
  void give_back(const std::byte*, std::size_t) noexcept override {}

 private:
  py::function make_;
  py::array made_;
};

class Calibration {
 public:
  Calibration(const py::object& header, const py::function& tensors, LayerRange layers, std::size_t texts,
              std::size_t length, MomentKind kind, unsigned threads)
      : kind_(kind), threads_(threads == 0 ? usable_threads() : threads) {
    const auto file = to_model_file(header, GgufExtent::kHeader);
    MadeTensors source(tensors);  // let go of under the interpreter's lock
    const py::gil_scoped_release release;
    model_ = std::make_unique<Model>(*file, open_backend("cpu", threads_), length, Drafting{}, texts * length, &source,
                                     check_signals, layers);
    pass_ = std::make_unique<LayerPass>(*model_, texts, length);
  }

  void run(const Texts& texts, Rows& x, const std::optional<std::size_t>& into) {
    const std::span tokens(texts.data(), static_cast<std::size_t>(texts.size()));
    const std::span rows(x.mutable_data(), static_cast<std::size_t>(x.size()));
    const py::gil_scoped_release release;
    pass_->run(tokens, rows, into ? &part(*into) : nullptr);
  }

  // (names, columns, experts) of each distinct input that was seen, in the order of the model.
  py::list inputs() {
    py::list list;
    for (const auto& input : part(0).inputs()) {
      py::list names;
      for (const Weight* weight : input->weights) names.append(name_of(weight));
      list.append(py::make_tuple(py::tuple(names), input->cols, input->sums.size()));
    }
    return list;
  }

  // The mean of x x^T [cols, cols], or of x^2 [cols], over the rows that were seen, and how many they were.
  py::tuple moments(const std::string& name, std::size_t of_part, std::size_t expert) {
    const MomentSum& sum = find(name, of_part, expert);
    std::vector<py::ssize_t> shape{static_cast<py::ssize_t>(cols_of(name, of_part))};
    if (kind_ == MomentKind::kFull) shape.push_back(shape.front());
    py::array_t<float> mean(shape);
    float* to = mean.mutable_data();
    std::fill_n(to, mean.size(), 0.0F);
    const auto scale = static_cast<float>(sum.rows > 0 ? 1.0 / sum.rows : 0.0);
    std::ranges::transform(sum.values, to, [scale](float value) { return value * scale; });
    if (kind_ == MomentKind::kFull) mirror_gram(to, static_cast<std::size_t>(shape.front()), part(of_part).workers());
    return py::make_tuple(mean, sum.rows);
  }

 private:
  Moments& part(std::size_t number) {
    constexpr std::size_t kParts = 2;
    if (number >= kParts) throw InputError("part " + std::to_string(number) + ", expected 0 or 1");
    if (parts_[number] == nullptr) {
      parts_[number] = std::make_unique<Moments>(model_->lock_device().ops(), kind_, threads_);
    }
    return *parts_[number];
  }

  const PackedTensor& tensor(const std::string& name) const {
    for (const PackedTensor& packed : model_->weights().directory) {
      if (packed.name == name) return packed;
    }
    throw InputError("no tensor '" + name + "' in these layers");
  }

  std::string name_of(const Weight* weight) const {
    const auto found = std::ranges::find(model_->weights().directory, weight, &PackedTensor::matrix);
    return found->name;
  }

  const Moments::Input& input(const std::string& name, std::size_t of_part) {
    const Weight* weight = tensor(name).matrix;
    for (const auto& input : part(of_part).inputs()) {
      if (weight != nullptr && std::ranges::find(input->weights, weight) != input->weights.end()) return *input;
    }
    throw InputError("nothing has gone through '" + name + "'");
  }
  std::size_t cols_of(const std::string& name, std::size_t of_part) { return input(name, of_part).cols; }

  const MomentSum& find(const std::string& name, std::size_t of_part, std::size_t expert) {
    const Moments::Input& found = input(name, of_part);
    if (expert >= found.sums.size()) {
      throw InputError("expert " + std::to_string(expert) + " of '" + name + "', which has " +
                       std::to_string(found.sums.size()));
    }
    return found.sums[expert];
  }

  const MomentKind kind_;
  const unsigned threads_;
  std::unique_ptr<Model> model_;
  std::unique_ptr<LayerPass> pass_;
  std::unique_ptr<Moments> parts_[2];
};

std::unique_ptr<Calibration> calibrate(const py::object& header, const py::function& tensors, const py::int_& first,
                                       const py::int_& count, const py::int_& texts, const py::int_& length,
                                       bool diagonal, const py::int_& threads) {
  const LayerRange layers{to_count("first", first, 0), to_count("count", count, 1)};
  return std::make_unique<Calibration>(header, tensors, layers, to_count("texts", texts, 1),
                                       to_count("length", length, 1),
                                       diagonal ? MomentKind::kDiagonal : MomentKind::kFull, to_threads(threads));
}

}  // namespace

void bind_calibration(py::module_& module) {
  py::class_<Calibration>(module, "Calibration", py::is_final())
      .def(py::init(&calibrate), py::arg("header"), py::kw_only(), py::arg("tensors"), py::arg("first"),
           py::arg("count"), py::arg("texts"), py::arg("length"), py::arg("diagonal") = false, py::arg("threads") = 0)
      .def("run", &Calibration::run, py::arg("tokens").noconvert(), py::arg("x").noconvert(), py::kw_only(),
           py::arg("into") = py::none())
      .def_property_readonly("inputs", &Calibration::inputs)
      .def("moments", &Calibration::moments, py::arg("name"), py::kw_only(), py::arg("part") = 0,
           py::arg("expert") = 0);
}

}  // namespace qwen35
