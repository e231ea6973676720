// Translates other writers' metadata to what llama.cpp writes for the family.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "dialect/edited_directory.h"

namespace qwen35 {

// As the metadata count them: `main` layers and behind them `mtp` blocks that predict further tokens.
struct Blocks {
  std::uint64_t main;
  std::uint64_t mtp;
};

// A count, or nothing for another kind of value, which the reader of the key refuses.
std::optional<std::uint64_t> find_count(const GgufDirectory& file, const std::string& key);

// Nothing where the counts are missing or inconsistent.
std::optional<Blocks> counted_blocks(const GgufDirectory& file, const std::string& architecture);

// Replaces lists of one number per block by that number and three RoPE sections by four, and adds keys that the tensors
// imply. Leaves what it cannot translate. Throws FormatError naming a list whose numbers differ.
void translate_keys(EditedDirectory& file, const std::string& architecture);

}  // namespace qwen35
