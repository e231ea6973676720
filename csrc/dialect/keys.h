// Metadata as llama.cpp writes it for the family, out of what other writers put there.
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

// A count as it stands; nothing for another kind of value, which whoever needs it refuses.
std::optional<std::uint64_t> find_count(const GgufDirectory& file, const std::string& key);

// Nothing where the counts are missing or cannot be.
std::optional<Blocks> counted_blocks(const GgufDirectory& file, const std::string& architecture);

// Lists of one number per block become that number, three RoPE sections four, and keys that tensors imply are added.
// What cannot be translated stays as it is. Throws FormatError naming a list whose numbers differ.
void translate_keys(EditedDirectory& file, const std::string& architecture);

}  // namespace qwen35
