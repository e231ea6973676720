// Lookups in a parsed GGUF and the typed reads of its metadata values.
#include "gguf/gguf.h"

#include <algorithm>
#include <cstring>
#include <limits>
#include <numeric>

#include "base/error.h"
#include "gguf/parser.h"

namespace qwen35 {
namespace {

template <class T>
T load(const std::byte* at) noexcept {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

[[noreturn]] void wrong_type(const GgufValue& value, const char* expected) {
  throw FormatError("metadata key '" + std::string(value.key()) + "' is " + (value.is_array() ? "an array of " : "") +
                    name(value.type()) + "; expected " + expected);
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

// Scalars only: an array where one value is meant is the wrong type.
const GgufValue* scalar(const GgufValue* value, const char* expected) {
  if (value != nullptr && value->is_array()) wrong_type(*value, expected);
  return value;
}

// Indices of the items, sorted by name; those of equal names lie side by side.
template <class Item, class Name>
void index(std::vector<std::uint32_t>& order, const std::vector<Item>& items, const Name& name) {
  order.resize(items.size());
  std::iota(order.begin(), order.end(), std::uint32_t{0});
  std::sort(order.begin(), order.end(),
            [&](std::uint32_t a, std::uint32_t b) { return name(items[a]) < name(items[b]); });
}

}  // namespace

const char* name(GgufType type) noexcept {
  static constexpr const char* kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                           "bool", "string", "array", "u64", "i64", "f64"};
  const auto number = static_cast<std::size_t>(type);
  return number < std::size(kNames) ? kNames[number] : "unknown";
}

std::string GgufTensor::type_name() const {
  const auto number = static_cast<std::uint32_t>(dtype);
  if (const DTypeInfo* type = find_dtype(number)) return type->name;
  if (const DTypeInfo* type = find_foreign_dtype(number)) return type->name;
  return "type " + std::to_string(number);
}

MatrixView GgufTensor::matrix() const {
  const auto number = static_cast<std::uint32_t>(dtype);
  if (find_dtype(number) == nullptr) {
    std::string types;
    for (const DTypeInfo& type : dtypes()) types += std::string(types.empty() ? "" : ", ") + type.name;
    throw FormatError("tensor '" + std::string(name) + "' is " + type_name() + " (GGUF type " + std::to_string(number) +
                      "), which is not supported; supported are " + types);
  }
  std::size_t rows = 1;
  for (std::size_t i = 1; i < shape.size(); ++i) rows *= static_cast<std::size_t>(shape[i]);
  return {data, dtype, rows, static_cast<std::size_t>(shape[0])};
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

Gguf::Gguf(const std::filesystem::path& path, GgufExtent extent) : file_(path) { GgufParser(*this, extent).parse(); }

void GgufDirectory::index_values() {
  index(values_by_key_, values_, [](const GgufValue& value) { return value.key(); });
}

void GgufDirectory::index_tensors() {
  index(tensors_by_name_, tensors_, [](const GgufTensor& tensor) { return tensor.name; });
}

const GgufTensor* GgufDirectory::find(std::string_view name) const noexcept {
  const auto at = std::lower_bound(tensors_by_name_.begin(), tensors_by_name_.end(), name,
                                   [&](std::uint32_t i, std::string_view key) { return tensors_[i].name < key; });
  return at != tensors_by_name_.end() && tensors_[*at].name == name ? &tensors_[*at] : nullptr;
}

const GgufTensor& Gguf::tensor(std::string_view name) const {
  const GgufTensor* found = find(name);
  if (found == nullptr) throw FormatError(path().string() + ": no tensor named '" + std::string(name) + "'");
  return *found;
}

const GgufValue* GgufDirectory::find_value(std::string_view key) const noexcept {
  const auto at = std::lower_bound(values_by_key_.begin(), values_by_key_.end(), key,
                                   [&](std::uint32_t i, std::string_view k) { return values_[i].key() < k; });
  return at != values_by_key_.end() && values_[*at].key() == key ? &values_[*at] : nullptr;
}

std::optional<std::uint64_t> GgufDirectory::get_uint(std::string_view key) const {
  const GgufValue* value = scalar(find_value(key), "an integer");
  return value == nullptr ? std::nullopt : std::optional(value->uint());
}

std::optional<std::int64_t> GgufDirectory::get_int(std::string_view key) const {
  const GgufValue* value = scalar(find_value(key), "an integer");
  return value == nullptr ? std::nullopt : std::optional(value->integer());
}

std::optional<double> GgufDirectory::get_float(std::string_view key) const {
  const GgufValue* value = scalar(find_value(key), "a number");
  return value == nullptr ? std::nullopt : std::optional(value->real());
}

std::optional<bool> GgufDirectory::get_bool(std::string_view key) const {
  const GgufValue* value = scalar(find_value(key), "bool");
  return value == nullptr ? std::nullopt : std::optional(value->boolean());
}

std::optional<std::string_view> GgufDirectory::get_string(std::string_view key) const {
  const GgufValue* value = find_value(key);
  return value == nullptr ? std::nullopt : std::optional(value->string());
}

const GgufValue* GgufDirectory::get_array(std::string_view key) const {
  const GgufValue* value = find_value(key);
  if (value != nullptr && !value->is_array()) wrong_type(*value, "an array");
  return value;
}

}  // namespace qwen35
