#include "dialect/keys.h"

#include <limits>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "dialect/refuse.h"

namespace qwen35 {
namespace {

constexpr std::uint64_t kMostBlocks = 1024;
constexpr std::uint64_t kUsualInterval = 4;

std::string block_name(std::uint64_t block, const char* part) { return "blk." + std::to_string(block) + "." + part; }

// A list of one value per block, with or without the MTP blocks: the same wherever `counts(block)`, there or 0
// elsewhere.
template <class Counts>
void flatten(EditedDirectory& file, const std::string& key, const Blocks& blocks, const Counts& counts) {
  const GgufValue* list = file.find_value(key);
  if (list == nullptr || !list->is_array()) return;
  if (list->size() != blocks.main && list->size() != blocks.main + blocks.mtp) {
    refuse_key(key, "a list of " + std::to_string(list->size()),
               "one number, or one per block: " + std::to_string(blocks.main + blocks.mtp));
  }
  std::uint64_t common = 0;
  for (std::uint64_t i = 0; i < list->size(); ++i) {
    const std::uint64_t here = list->uint(i);
    if (here == 0 && !counts(i)) continue;
    if (here == 0 || here > std::numeric_limits<std::uint32_t>::max() || (common != 0 && here != common)) {
      refuse_key(key + "[" + std::to_string(i) + "]", std::to_string(here),
                 common == 0 ? "a positive number" : std::to_string(common) + " as in the blocks before");
    }
    common = here;
  }
  if (common == 0) refuse_key(key, "0 in every block", "a positive number where a block has it");
  file.set(key, static_cast<std::uint32_t>(common));
}

// Every how many layers one attends, by the tensors' names; the usual one where they tell nothing regular.
std::uint64_t attention_interval(const GgufDirectory& file, std::uint64_t layers) {
  const auto attends = [&](std::uint64_t i) { return file.find(block_name(i, "attn_q.weight")) != nullptr; };
  std::uint64_t interval = 1;
  while (interval <= layers && !attends(interval - 1)) ++interval;
  for (std::uint64_t i = 0; i < layers; ++i) {
    if (attends(i) != ((i + 1) % interval == 0)) return kUsualInterval;
  }
  return interval <= layers ? interval : kUsualInterval;
}

void flatten_lists(EditedDirectory& file, const std::string& architecture) {
  const auto blocks = counted_blocks(file, architecture);
  if (!blocks) return;
  const std::string interval_key = architecture + ".full_attention_interval";
  if (file.find_value(interval_key) == nullptr) {
    file.set(interval_key, static_cast<std::uint32_t>(attention_interval(file, blocks->main)));
  }
  const std::uint64_t interval = find_count(file, interval_key).value_or(0);
  if (interval == 0) return;
  const auto attends = [&](std::uint64_t i) { return i >= blocks->main || (i + 1) % interval == 0; };
  flatten(file, architecture + ".attention.head_count", *blocks, attends);
  flatten(file, architecture + ".attention.head_count_kv", *blocks, attends);
  if (architecture == "qwen35") {
    flatten(file, architecture + ".feed_forward_length", *blocks, [](std::uint64_t) { return true; });
  }
}

// Three or four counts that fit i32, as four; nothing for anything else.
std::optional<std::vector<std::int32_t>> find_sections(const GgufDirectory& file, const std::string& key) {
  const GgufValue* list = file.find_value(key);
  if (list == nullptr || !list->is_array() || list->size() < 3 || list->size() > 4) return std::nullopt;
  std::vector<std::int32_t> sections(4, 0);
  try {
    for (std::uint64_t i = 0; i < list->size(); ++i) {
      const std::int64_t pairs = list->integer(i);
      if (pairs < 0 || pairs > std::numeric_limits<std::int32_t>::max()) return std::nullopt;
      sections[static_cast<std::size_t>(i)] = static_cast<std::int32_t>(pairs);
    }
  } catch (const FormatError&) {
    return std::nullopt;
  }
  return sections;
}

// llama.cpp insists on four under one name; Ollama has written three, and other names.
void complete_sections(EditedDirectory& file, const std::string& architecture) {
  const std::string key = architecture + ".rope.dimension_sections";
  const std::string others[] = {architecture + ".mrope_sections", architecture + ".rope.mrope_section"};
  auto sections = find_sections(file, key);
  if (!sections && file.find_value(key) != nullptr) return;
  for (const std::string& other : others) {
    if (!sections) sections = find_sections(file, other);
  }
  if (!sections && find_count(file, architecture + ".rope.dimension_count") == 64) sections = {11, 11, 10, 0};
  if (sections) file.set(key, *sections);
}

// The columns of `tensor` are this number, where the writer left it out.
void complete_width(EditedDirectory& file, const std::string& key, const char* tensor) {
  const GgufTensor* found = file.find(tensor);
  if (file.find_value(key) != nullptr || found == nullptr) return;
  if (found->shape[0] > std::numeric_limits<std::uint32_t>::max()) return;
  file.set(key, static_cast<std::uint32_t>(found->shape[0]));
}

// Configurations call plain RoPE by these names too.
void drop_plain_rope(EditedDirectory& file, const std::string& architecture) {
  const std::string key = architecture + ".rope.scaling.type";
  const GgufValue* type = file.find_value(key);
  if (type == nullptr || type->is_array() || type->type() != GgufType::kString) return;
  const std::string_view name = type->string();
  if (name.empty() || name == "default" || name == "mrope") file.remove(key);
}

}  // namespace

std::optional<std::uint64_t> find_count(const GgufDirectory& file, const std::string& key) {
  const GgufValue* value = file.find_value(key);
  if (value == nullptr || value->is_array()) return std::nullopt;
  try {
    return value->uint();
  } catch (const FormatError&) {
    return std::nullopt;
  }
}

std::optional<Blocks> counted_blocks(const GgufDirectory& file, const std::string& architecture) {
  const std::string mtp_key = architecture + ".nextn_predict_layers";
  const auto blocks = find_count(file, architecture + ".block_count");
  const auto mtp = file.find_value(mtp_key) == nullptr ? std::optional<std::uint64_t>(0) : find_count(file, mtp_key);
  if (!blocks || !mtp || *blocks > kMostBlocks || *mtp >= *blocks) return std::nullopt;
  return Blocks{*blocks - *mtp, *mtp};
}

void translate_keys(EditedDirectory& file, const std::string& architecture) {
  complete_sections(file, architecture);
  drop_plain_rope(file, architecture);
  if (architecture == "qwen35moe") {
    complete_width(file, architecture + ".expert_feed_forward_length", "blk.0.ffn_down_exps.weight");
    complete_width(file, architecture + ".expert_shared_feed_forward_length", "blk.0.ffn_down_shexp.weight");
  }
  flatten_lists(file, architecture);
}

}  // namespace qwen35
