// The metadata and the tensor list of a GGUF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gguf/value.h"
#include "tensor/tensor.h"

namespace qwen35 {

struct GgufTensor {
  std::string_view name;
  DType dtype;                       // may be a number outside DType: listable, but find_dtype() gives nullptr
  std::vector<std::uint64_t> shape;  // ne order: shape[0] is contiguous; one to four dimensions, none zero
  std::size_t bytes;                 // for types outside DType: up to the next tensor
  std::uint64_t offset;              // from the start of its part; 0 in a header alone
  std::size_t part;                  // of Gguf::parts()

  // rows = product of shape[1..], cols = shape[0], no data. Throws FormatError naming tensor and type when the type
  // cannot be decoded.
  MatrixView matrix() const;
  std::string type_name() const;  // "Q4_K"; for numbers nobody knows "type 99"
};

// Metadata and tensors by name. Copies share ownership of the bytes that names and values point into.
class GgufDirectory {
 public:
  std::span<const GgufTensor> tensors() const noexcept { return tensors_; }  // in file order
  const GgufTensor* find(std::string_view name) const noexcept;

  // Missing -> nullopt; present with another type or out of range -> FormatError naming key and type.
  std::span<const GgufValue> metadata() const noexcept { return values_; }  // in file order
  const GgufValue* find_value(std::string_view key) const noexcept;
  std::optional<std::uint64_t> get_uint(std::string_view key) const;
  std::optional<std::int64_t> get_int(std::string_view key) const;
  std::optional<double> get_float(std::string_view key) const;
  std::optional<bool> get_bool(std::string_view key) const;
  std::optional<std::string_view> get_string(std::string_view key) const;
  const GgufValue* get_array(std::string_view key) const;  // nullptr when missing

 protected:
  friend class GgufParser;
  // Keeps a copy of the header, which names and values point into.
  void keep(const std::byte* header, std::size_t bytes);
  // Adds the tensors of a further part; its metadata are ignored.
  void append(const GgufDirectory& directory, std::size_t part);
  // Call after a change. At most 2^32 of either.
  void index_values();
  void index_tensors();

  std::vector<std::shared_ptr<const std::byte[]>> headers_;
  std::vector<GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::vector<std::uint32_t> values_by_key_;    // indices, sorted by key
  std::vector<std::uint32_t> tensors_by_name_;  // indices, sorted by name
};

}  // namespace qwen35
