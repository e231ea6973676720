// One value of a GGUF's metadata; a view of bytes owned elsewhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <iterator>
#include <string_view>

namespace qwen35 {

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

// Forward range over `count` consecutive strings, each after its 64-bit length (already checked).
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
// not fit. Indices must be below size().
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

// FormatError: the value's key and type, and what is expected.
[[noreturn]] void wrong_type(const GgufValue& value, const char* expected);

}  // namespace qwen35
