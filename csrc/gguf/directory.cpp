#include "gguf/directory.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "base/error.h"

namespace qwen35 {
namespace {

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
  return {nullptr, dtype, rows, static_cast<std::size_t>(shape[0])};
}

void GgufDirectory::keep(const std::byte* header, std::size_t bytes) {
  std::shared_ptr<std::byte[]> copy(new std::byte[bytes]);
  std::memcpy(copy.get(), header, bytes);
  const auto moved = [&](const void* at) { return copy.get() + (static_cast<const std::byte*>(at) - header); };
  const auto moved_name = [&](std::string_view name) {
    return std::string_view(reinterpret_cast<const char*>(moved(name.data())), name.size());
  };
  for (GgufValue& value : values_) {
    value = GgufValue(moved_name(value.key()), value.type(), moved(value.data()), value.size(), value.is_array());
  }
  for (GgufTensor& tensor : tensors_) tensor.name = moved_name(tensor.name);
  headers_.push_back(std::move(copy));
}

void GgufDirectory::append(const GgufDirectory& directory, std::size_t part) {
  headers_.insert(headers_.end(), directory.headers_.begin(), directory.headers_.end());
  for (const GgufTensor& tensor : directory.tensors_) tensors_.emplace_back(tensor).part = part;
}

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
