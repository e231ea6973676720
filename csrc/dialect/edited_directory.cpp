#include "dialect/edited_directory.h"

#include <algorithm>

namespace qwen35 {

EditedDirectory::EditedDirectory(const GgufDirectory& file) : GgufDirectory(file) {}

void EditedDirectory::set(std::string_view key, std::uint32_t value) {
  put(key, GgufType::kU32, &value, 1, sizeof value, false);
}

void EditedDirectory::set(std::string_view key, const std::vector<std::int32_t>& values) {
  put(key, GgufType::kI32, values.data(), values.size(), sizeof values[0], true);
}

void EditedDirectory::remove(std::string_view key) {
  std::erase_if(values_, [&](const GgufValue& value) { return value.key() == key; });
  index_values();
}

void EditedDirectory::put(std::string_view key, GgufType type, const void* numbers, std::size_t count,
                          std::size_t width, bool is_array) {
  const auto* bytes = static_cast<const std::byte*>(numbers);
  const std::vector<std::byte>& kept = numbers_.emplace_back(bytes, bytes + count * width);
  const auto at = std::find_if(values_.begin(), values_.end(), [&](const GgufValue& v) { return v.key() == key; });
  if (at != values_.end()) {
    *at = GgufValue(at->key(), type, kept.data(), count, is_array);
    return;
  }
  values_.emplace_back(keep(std::string(key)), type, kept.data(), count, is_array);
  index_values();
}

}  // namespace qwen35
