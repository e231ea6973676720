// A GGUF's directory with some of its names, shapes and values replaced. The file itself is not touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "gguf/gguf.h"

namespace qwen35 {

class EditedDirectory : public GgufDirectory {
 public:
  explicit EditedDirectory(const GgufDirectory& file);
  EditedDirectory(const EditedDirectory&) = delete;  // its values point into its own memory
  EditedDirectory& operator=(const EditedDirectory&) = delete;

  // Replaces the value of `key`, or adds it as the last.
  void set(std::string_view key, std::uint32_t value);
  void set(std::string_view key, const std::vector<std::int32_t>& values);
  void remove(std::string_view key);

  // `change` may alter each tensor in place; a new name has to be kept here.
  template <class Change>
  void change_tensors(const Change& change) {
    for (GgufTensor& tensor : tensors_) change(tensor);
    index_tensors();
  }
  std::string_view keep(std::string name) { return names_.emplace_back(std::move(name)); }

  // Removes the tensors that `chosen` is true of, and appends them to `to`.
  template <class Chosen>
  void move_tensors(const Chosen& chosen, std::vector<GgufTensor>& to) {
    std::vector<GgufTensor> rest;
    for (GgufTensor& tensor : tensors_) (chosen(tensor) ? to : rest).push_back(std::move(tensor));
    tensors_ = std::move(rest);
    index_tensors();
  }

 private:
  void put(std::string_view key, GgufType type, const void* numbers, std::size_t count, std::size_t width,
           bool is_array);

  std::deque<std::string> names_;
  std::deque<std::vector<std::byte>> numbers_;
};

}  // namespace qwen35
