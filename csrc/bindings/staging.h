// numpy arrays on a device, for the length of one operation of _core.kernels: uploaded, used, downloaded.
#pragma once

#include <pybind11/numpy.h>

#include <cstddef>
#include <cstdint>
#include <list>
#include <memory>
#include <vector>

#include "backend/backend.h"

namespace qwen35 {

// A copy on the device that lies as the array does: as far off a cache line and with as much between its rows, so that
// an array that is awkward in numpy is awkward there too. Words before, between and behind the rows guard them.
class StagedArray {
 public:
  StagedArray(Backend& ops, const pybind11::array& array, std::size_t rows, std::size_t cols, std::size_t stride);

  bool is_of(const pybind11::array& array) const { return array.data() == array_.data(); }
  Tensor tensor() const noexcept { return {data(), rows_, cols_, stride_}; }
  DevicePtr<float> data() const noexcept;
  // Back into the array. Throws Error when a guard was overwritten.
  void fetch();

 private:
  bool guards_hold(const std::vector<std::uint32_t>& words) const;

  Backend& ops_;
  pybind11::array array_;
  std::size_t rows_, cols_, stride_, first_;  // in words of four bytes; the array begins at word first_
  std::vector<std::uint32_t> uploaded_;
  std::unique_ptr<Buffer> buffer_;
};

// The arrays of one operation. One that is given twice is on the device once.
class Stage {
 public:
  explicit Stage(Backend& ops) : ops_(ops) {}

  // fp32 [rows, cols], the columns of a row neighbours. Throws InputError for another array.
  Tensor tensor(const pybind11::array& array);
  // Contiguous fp32 or int32, of any shape.
  DevicePtr<float> floats(const pybind11::array& array);
  DevicePtr<std::int32_t> integers(const pybind11::array& array);
  void fetch(const pybind11::array& array);

 private:
  StagedArray& place(const pybind11::array& array, std::size_t rows, std::size_t cols, std::size_t stride);

  Backend& ops_;
  std::list<StagedArray> arrays_;
};

}  // namespace qwen35
