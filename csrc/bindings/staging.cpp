#include "bindings/staging.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"

namespace py = pybind11;

namespace qwen35 {
namespace {

constexpr std::size_t kWord = sizeof(float);
constexpr std::size_t kLineWords = 64 / kWord;
constexpr std::uint32_t kGuard = 0x7FC0CAFE;  // a NaN that no kernel computes

std::size_t extent(std::size_t rows, std::size_t cols, std::size_t stride) {
  return rows == 0 ? 0 : (rows - 1) * stride + cols;
}

std::size_t contiguous_words(const py::array& array) {
  if ((array.flags() & py::array::c_style) == 0) throw InputError("expected a contiguous array");
  return static_cast<std::size_t>(array.size());
}

}  // namespace

StagedArray::StagedArray(Backend& ops, const py::array& array, std::size_t rows, std::size_t cols, std::size_t stride)
    : ops_(ops), array_(array), rows_(rows), cols_(cols), stride_(stride) {
  const std::size_t words = extent(rows, cols, stride);
  first_ = kLineWords + reinterpret_cast<std::uintptr_t>(array.data()) / kWord % kLineWords;
  uploaded_.assign(first_ + words + kLineWords, kGuard);
  const auto* from = static_cast<const std::byte*>(array.data());
  for (std::size_t r = 0; r < rows; ++r) {
    std::memcpy(uploaded_.data() + first_ + r * stride, from + r * stride * kWord, cols * kWord);
  }
  buffer_ = ops.allocate(uploaded_.size() * kWord);
  ops.upload(buffer_->data(), reinterpret_cast<const std::byte*>(uploaded_.data()), uploaded_.size() * kWord);
}

DevicePtr<float> StagedArray::data() const noexcept { return buffer_->data().as<float>() + first_; }

bool StagedArray::guards_hold(const std::vector<std::uint32_t>& words) const {
  const auto is_whole = [&](std::size_t begin, std::size_t end) {
    return std::equal(words.begin() + static_cast<std::ptrdiff_t>(begin),
                      words.begin() + static_cast<std::ptrdiff_t>(end),
                      uploaded_.begin() + static_cast<std::ptrdiff_t>(begin));
  };
  if (!is_whole(0, first_) || !is_whole(first_ + extent(rows_, cols_, stride_), words.size())) return false;
  for (std::size_t r = 0; r + 1 < rows_; ++r) {
    if (!is_whole(first_ + r * stride_ + cols_, first_ + (r + 1) * stride_)) return false;
  }
  return true;
}

void StagedArray::fetch() {
  std::vector<std::uint32_t> words(uploaded_.size());
  ops_.download(reinterpret_cast<std::byte*>(words.data()), buffer_->data(), words.size() * kWord);
  if (!guards_hold(words)) throw Error("the operation wrote beside the rows of its output");
  auto* to = static_cast<std::byte*>(array_.mutable_data());
  for (std::size_t r = 0; r < rows_; ++r) {
    std::memcpy(to + r * stride_ * kWord, words.data() + first_ + r * stride_, cols_ * kWord);
  }
}

StagedArray& Stage::place(const py::array& array, std::size_t rows, std::size_t cols, std::size_t stride) {
  const auto known = std::ranges::find_if(arrays_, [&](const StagedArray& staged) { return staged.is_of(array); });
  return known != arrays_.end() ? *known : arrays_.emplace_back(ops_, array, rows, cols, stride);
}

Tensor Stage::tensor(const py::array& array) {
  if (array.ndim() != 2 || !py::isinstance<py::array_t<float>>(array)) {
    throw InputError("expected a two-dimensional fp32 array");
  }
  const auto rows = static_cast<std::size_t>(array.shape(0)), cols = static_cast<std::size_t>(array.shape(1));
  if (array.size() == 0 || rows == 1) return place(array, rows, cols, cols).tensor();
  const py::ssize_t row_bytes = array.strides(0);
  const auto stride = static_cast<std::size_t>(row_bytes) / kWord;
  if (array.strides(1) != kWord || row_bytes < 0 || stride < cols || row_bytes % py::ssize_t{kWord} != 0) {
    throw InputError("expected rows one behind the other whose columns are neighbours");
  }
  return place(array, rows, cols, stride).tensor();
}

DevicePtr<float> Stage::floats(const py::array& array) {
  if (!py::isinstance<py::array_t<float>>(array)) throw InputError("expected an fp32 array");
  const std::size_t words = contiguous_words(array);
  return place(array, 1, words, words).data();
}

DevicePtr<std::int32_t> Stage::integers(const py::array& array) {
  if (!py::isinstance<py::array_t<std::int32_t>>(array)) throw InputError("expected an int32 array");
  const std::size_t words = contiguous_words(array);
  return place(array, 1, words, words).data().as<std::int32_t>();
}

void Stage::fetch(const py::array& array) {
  std::ranges::find_if(arrays_, [&](const StagedArray& staged) { return staged.is_of(array); })->fetch();
}

}  // namespace qwen35
