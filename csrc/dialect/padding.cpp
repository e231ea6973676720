#include "dialect/padding.h"

#include <algorithm>
#include <limits>
#include <string_view>
#include <vector>

#include "base/error.h"

namespace qwen35 {
namespace {

constexpr std::int64_t kUserDefined = 4, kUnused = 5;  // of tokenizer.ggml.token_type

bool is_padding(std::string_view token) {
  constexpr std::string_view kBegin = "[PAD";
  if (!token.starts_with(kBegin) || !token.ends_with(']')) return false;
  const std::string_view number = token.substr(kBegin.size(), token.size() - kBegin.size() - 1);
  return !number.empty() && std::all_of(number.begin(), number.end(), [](char c) { return c >= '0' && c <= '9'; });
}

const GgufValue* find_list(const GgufDirectory& file, std::string_view key) {
  const GgufValue* value = file.find_value(key);
  return value != nullptr && value->is_array() && value->size() > 0 ? value : nullptr;
}

// The first of the tokens at the end that are padding by name.
std::uint64_t padding_begin(const GgufValue& tokens) {
  std::uint64_t begin = 0, index = 0;
  for (const std::string_view token : tokens.strings()) {
    ++index;
    if (!is_padding(token)) begin = index;
  }
  return begin;
}

}  // namespace

void mark_padding(EditedDirectory& file) {
  const GgufValue* tokens = find_list(file, "tokenizer.ggml.tokens");
  const GgufValue* kinds = find_list(file, "tokenizer.ggml.token_type");
  if (tokens == nullptr || kinds == nullptr || tokens->type() != GgufType::kString) return;
  if (tokens->size() != kinds->size()) return;
  std::vector<std::int32_t> marked;
  try {
    if (kinds->integer(kinds->size() - 1) != kUserDefined) return;
    const std::uint64_t begin = padding_begin(*tokens);
    if (begin == tokens->size()) return;
    marked.reserve(static_cast<std::size_t>(kinds->size()));
    for (std::uint64_t i = 0; i < kinds->size(); ++i) {
      const std::int64_t kind = kinds->integer(i);
      if (kind < 0 || kind > std::numeric_limits<std::int32_t>::max()) return;
      marked.push_back(static_cast<std::int32_t>(i >= begin && kind == kUserDefined ? kUnused : kind));
    }
  } catch (const FormatError&) {
    return;  // whoever needs the kinds refuses them
  }
  file.set("tokenizer.ggml.token_type", marked);
}

}  // namespace qwen35
