// GGUF v2/v3, little-endian: header, metadata and tensor directory over a memory-mapped file. Nothing is copied, and
// nothing is believed before it is checked: a Gguf that exists has every view it hands out inside the file, and one
// that was opened as a header alone hands out no tensor's bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <filesystem>
#include <iterator>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/mapped_file.h"
#include "tensor/tensor.h"

namespace qwen35 {

struct GgufTensor {
  std::string_view name;
  DType dtype;                       // may be a number outside DType: listable, but find_dtype() gives nullptr
  std::vector<std::uint64_t> shape;  // ne order: shape[0] is contiguous; one to four dimensions, none zero
  const std::byte* data;             // inside the mapping, aligned to the file's alignment; null in a header alone
  std::size_t bytes;                 // for types outside DType: what the file has up to the next tensor

  // rows = product of shape[1..], cols = shape[0]. Throws FormatError naming tensor and type when the type cannot be
  // decoded.
  MatrixView matrix() const;
  std::string type_name() const;  // "Q4_K"; for numbers nobody knows "type 99"
};

// Numbered as in GGUF files.
enum class GgufType : std::uint32_t {
  kU8 = 0,
  kI8 = 1,
  kU16 = 2,
  kI16 = 3,
  kU32 = 4,
  kI32 = 5,
  kF32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kU64 = 10,
  kI64 = 11,
  kF64 = 12,
};

const char* name(GgufType type) noexcept;  // "u32", "string"; "unknown" outside the enum

// Forward range over `count` strings that lie one behind the other, each after its 64-bit length (already checked).
class GgufStrings {
 public:
  class iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = std::string_view;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = std::string_view;

    iterator(const std::byte* at, std::uint64_t left) noexcept : at_(at), left_(left) {}
    std::string_view operator*() const noexcept {
      return {reinterpret_cast<const char*>(at_ + sizeof(std::uint64_t)), length()};
    }
    iterator& operator++() noexcept {
      at_ += sizeof(std::uint64_t) + length();
      --left_;
      return *this;
    }
    bool operator==(const iterator& other) const noexcept { return left_ == other.left_; }

   private:
    std::size_t length() const noexcept {
      std::uint64_t n;
      std::memcpy(&n, at_, sizeof n);
      return static_cast<std::size_t>(n);
    }
    const std::byte* at_;
    std::uint64_t left_;
  };

  GgufStrings(const std::byte* first, std::uint64_t count) noexcept : first_(first), count_(count) {}
  iterator begin() const noexcept { return {first_, count_}; }
  iterator end() const noexcept { return {nullptr, 0}; }
  std::uint64_t size() const noexcept { return count_; }

 private:
  const std::byte* first_;
  std::uint64_t count_;
};

// One metadata value, or an array of values of one type. The typed reads convert between integer widths (and from
// integers to double) and throw FormatError, naming key and type, when the stored type is another or the value does
// not fit. Indices are the caller's to keep below size().
class GgufValue {
 public:
  GgufValue() = default;
  // `count` numbers of this type at `data`, which outlive the value.
  GgufValue(std::string_view key, GgufType type, const std::byte* data, std::uint64_t count, bool is_array) noexcept
      : key_(key), data_(data), count_(count), type_(type), is_array_(is_array) {}

  std::string_view key() const noexcept { return key_; }
  bool is_array() const noexcept { return is_array_; }
  GgufType type() const noexcept { return type_; }        // of the elements, for an array
  std::uint64_t size() const noexcept { return count_; }  // 1 for a scalar
  const std::byte* data() const noexcept { return data_; }

  std::uint64_t uint(std::uint64_t index = 0) const;
  std::int64_t integer(std::uint64_t index = 0) const;
  double real(std::uint64_t index = 0) const;
  bool boolean(std::uint64_t index = 0) const;
  std::string_view string() const;  // a scalar string
  GgufStrings strings() const;      // an array of strings

 private:
  friend class GgufParser;
  const std::byte* element(std::uint64_t index) const noexcept;
  std::string_view key_;
  const std::byte* data_ = nullptr;
  std::uint64_t count_ = 1;
  GgufType type_ = GgufType::kU8;
  bool is_array_ = false;
};

// Metadata and tensors by name. The names, and what values and tensors point at, belong to whoever fills it.
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
  // To be called after a change. At most 2^32 of either.
  void index_values();
  void index_tensors();

  std::vector<GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::vector<std::uint32_t> values_by_key_;    // indices, sorted by key
  std::vector<std::uint32_t> tensors_by_name_;  // indices, sorted by name
};

// Whether the tensors' bytes follow their directory, or the file is its metadata and directory alone.
enum class GgufExtent : bool { kWhole, kHeader };

class Gguf : public GgufDirectory {
 public:
  // Throws FormatError when the file is not a whole, single-file GGUF (or its header),
  // std::filesystem::filesystem_error when the system cannot open it.
  explicit Gguf(const std::filesystem::path& path, GgufExtent extent = GgufExtent::kWhole);

  const std::filesystem::path& path() const noexcept { return file_.path(); }
  std::uint32_t version() const noexcept { return version_; }
  std::uint64_t offset(const GgufTensor& tensor) const noexcept {  // from the start of a whole file
    return static_cast<std::uint64_t>(tensor.data - file_.data());
  }

  const GgufTensor& tensor(std::string_view name) const;  // throws FormatError when it is missing

  // These bytes have been read and are not needed again soon: the system may drop their pages.
  void release(const std::byte* data, std::size_t bytes) const noexcept { file_.release(data, bytes); }
  void release() const noexcept { file_.release(file_.data(), file_.size()); }  // the header's too

 private:
  friend class GgufParser;
  MappedFile file_;
  std::uint32_t version_ = 0;
};

}  // namespace qwen35
