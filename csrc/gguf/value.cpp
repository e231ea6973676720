// The typed reads of metadata values.
#include "gguf/value.h"

#include <limits>
#include <optional>
#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

template <class T>
T load(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// An integer of any width and sign, as its two's complement bits and its sign.
struct Integer {
  std::uint64_t bits;
  bool negative;
};

Integer as_signed(std::int64_t value) noexcept { return {static_cast<std::uint64_t>(value), value < 0}; }

std::optional<Integer> load_integer(GgufType type, const std::byte* at) noexcept {
  switch (type) {
    case GgufType::kU8:
      return Integer{load<std::uint8_t>(at), false};
    case GgufType::kU16:
      return Integer{load<std::uint16_t>(at), false};
    case GgufType::kU32:
      return Integer{load<std::uint32_t>(at), false};
    case GgufType::kU64:
      return Integer{load<std::uint64_t>(at), false};
    case GgufType::kI8:
      return as_signed(load<std::int8_t>(at));
    case GgufType::kI16:
      return as_signed(load<std::int16_t>(at));
    case GgufType::kI32:
      return as_signed(load<std::int32_t>(at));
    case GgufType::kI64:
      return as_signed(load<std::int64_t>(at));
    case GgufType::kF32:
    case GgufType::kF64:
    case GgufType::kBool:
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return std::nullopt;
}

}  // namespace

void wrong_type(const GgufValue& value, const char* expected) {
  throw FormatError("metadata key '" + std::string(value.key()) + "' is " + (value.is_array() ? "an array of " : "") +
                    name(value.type()) + "; expected " + expected);
}

const char* name(GgufType type) noexcept {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  const auto number = static_cast<std::size_t>(type);
  return number < std::size(kNames) ? kNames[number] : "unknown";
}

const std::byte* GgufValue::element(std::uint64_t index) const noexcept {
  switch (type_) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return data_ + index;
    case GgufType::kU16:
    case GgufType::kI16:
      return data_ + 2 * index;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return data_ + 4 * index;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return data_ + 8 * index;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return data_;
}

std::uint64_t GgufValue::uint(std::uint64_t index) const {
  const auto value = load_integer(type_, element(index));
  if (!value) wrong_type(*this, "an integer");
  if (value->negative) {
    throw FormatError("metadata key '" + std::string(key_) + "' is " +
                      std::to_string(static_cast<std::int64_t>(value->bits)) + "; it cannot be negative");
  }
  return value->bits;
}

std::int64_t GgufValue::integer(std::uint64_t index) const {
  const auto value = load_integer(type_, element(index));
  if (!value) wrong_type(*this, "an integer");
  if (!value->negative && value->bits > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    throw FormatError("metadata key '" + std::string(key_) + "' is " + std::to_string(value->bits) +
                      "; it must be below 2^63");
  }
  return static_cast<std::int64_t>(value->bits);
}

double GgufValue::real(std::uint64_t index) const {
  if (type_ == GgufType::kF32) return load<float>(element(index));
  if (type_ == GgufType::kF64) return load<double>(element(index));
  const auto value = load_integer(type_, element(index));
  if (!value) wrong_type(*this, "a number");
  return value->negative ? static_cast<double>(static_cast<std::int64_t>(value->bits))
                         : static_cast<double>(value->bits);
}

bool GgufValue::boolean(std::uint64_t index) const {
  if (type_ != GgufType::kBool) wrong_type(*this, "bool");
  return load<std::uint8_t>(element(index)) != 0;
}

std::string_view GgufValue::string() const {
  if (type_ != GgufType::kString || is_array_) wrong_type(*this, "string");
  return *GgufStrings(data_, 1).begin();
}

GgufStrings GgufValue::strings() const {
  if (type_ != GgufType::kString || !is_array_) wrong_type(*this, "an array of string");
  return {data_, count_};
}

}  // namespace qwen35
