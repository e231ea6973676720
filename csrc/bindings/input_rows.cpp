// Rows that are not tokens: numpy in, and what a sequence keeps of them out.
#include "bindings/input_rows.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

#include "base/error.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

Digest to_digest(const py::bytes& bytes) {
  const auto view = static_cast<std::string_view>(bytes);
  Digest digest;
  if (view.size() != digest.size()) {
    throw InputError("a digest of " + std::to_string(view.size()) + " bytes, expected " +
                     std::to_string(digest.size()) + " bytes");
  }
  std::memcpy(digest.data(), view.data(), digest.size());
  return digest;
}

py::bytes from_digest(const Digest& digest) { return {reinterpret_cast<const char*>(digest.data()), digest.size()}; }

std::shared_ptr<InputBlock> make_block(const py::array_t<float, py::array::c_style | py::array::forcecast>& rows,
                                       const py::array_t<std::int32_t, py::array::c_style>& positions,
                                       const py::bytes& digest) {
  if (rows.ndim() != 2)
    throw InputError("input rows have " + std::to_string(rows.ndim()) + " dimensions, expected [n, D]");
  if (positions.ndim() != 2 || positions.shape(1) != 3) {
    throw InputError("positions of input rows are not three for each: time, height, width [n, 3]");
  }
  std::vector<Position> places;
  for (py::ssize_t i = 0; i < positions.shape(0); ++i) {
    places.push_back({positions.at(i, 0), positions.at(i, 1), positions.at(i, 2)});
  }
  return std::make_shared<InputBlock>(std::vector<float>(rows.data(), rows.data() + rows.size()), std::move(places),
                                      to_digest(digest));
}

std::uint32_t to_run_count(const py::handle& value) {
  const auto count = to_count("a count of input rows", py::cast<py::int_>(value), 0);
  if (count > std::numeric_limits<std::int32_t>::max()) {
    throw InputError("a count of input rows is " + std::to_string(count) + ", expected below 2^31");
  }
  return static_cast<std::uint32_t>(count);
}

Position to_position(const py::handle& value) {
  const auto parts = py::cast<py::tuple>(value);
  if (parts.size() != 3) throw InputError("the position of an input row is time, height and width");
  const auto part = [&](std::size_t i) { return static_cast<std::int32_t>(to_run_count(parts[i])); };
  return {part(0), part(1), part(2)};
}

py::tuple from_position(const Position& p) { return py::make_tuple(p.t, p.h, p.w); }

}  // namespace

std::vector<InputRows> to_inputs(const py::iterable& inputs) {
  std::vector<InputRows> all;
  for (const py::handle entry : inputs) {
    const auto pair = py::cast<py::tuple>(entry);
    if (pair.size() != 2) throw InputError("an entry of inputs is (first row, InputRows)");
    all.push_back({py::cast<std::ptrdiff_t>(pair[0]), py::cast<std::shared_ptr<InputBlock>>(pair[1])});
  }
  return all;
}

std::vector<InputRun> to_runs(const py::iterable& runs) {
  std::vector<InputRun> all;
  for (const py::handle entry : runs) {
    const auto run = py::cast<py::tuple>(entry);
    if (run.size() != 5) throw InputError("an entry of inputs is (first row, rows, positions, last position, digest)");
    all.push_back({to_run_count(run[0]), to_run_count(run[1]), to_run_count(run[2]), to_position(run[3]),
                   to_digest(py::cast<py::bytes>(run[4]))});
  }
  return all;
}

py::list from_runs(std::span<const InputRun> runs) {
  py::list all;
  for (const InputRun& run : runs) {
    all.append(py::make_tuple(run.first, run.count, run.advance, from_position(run.last), from_digest(run.digest)));
  }
  return all;
}

void bind_input_rows(py::module_& module) {
  py::class_<InputBlock, std::shared_ptr<InputBlock>>(module, "InputRows", py::is_final())
      .def(py::init(&make_block), py::arg("rows"), py::kw_only(), py::arg("positions"), py::arg("digest"))
      .def("__len__", &InputBlock::size)
      .def_property_readonly("advance", &InputBlock::advance)
      .def_property_readonly("last", [](const InputBlock& b) { return from_position(b.positions().back()); })
      .def_property_readonly("digest", [](const InputBlock& b) { return from_digest(b.digest()); });
}

}  // namespace qwen35
