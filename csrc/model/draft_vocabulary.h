// The tokens that a block drafts from. To read the head whole would cost more than all the rest of a draft. Byte-pair
// merges make frequent tokens first, and the special ones come last (docs/speculation.md).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/backend.h"

namespace qwen35 {

inline constexpr std::size_t kDraftTokens = 32768;
inline constexpr std::size_t kLastDraftTokens = 512;  // or a few more, so that they begin where a view of rows can

// Rows [0, frequent) of the head, and [last, all). Whole where that is not less: frequent is all then.
struct DraftVocabulary {
  std::size_t all = 0;  // V
  std::size_t frequent = 0;
  std::size_t last = 0;

  constexpr DraftVocabulary() = default;
  constexpr DraftVocabulary(std::size_t vocabulary, std::size_t most_frequent) noexcept
      : all(vocabulary), frequent(vocabulary), last(vocabulary) {
    if (most_frequent + kLastDraftTokens >= vocabulary) return;
    frequent = most_frequent;
    last = std::max(most_frequent, (vocabulary - kLastDraftTokens) / kViewedRows * kViewedRows);
  }

  constexpr bool is_whole() const noexcept { return frequent == last; }
  constexpr std::size_t rows() const noexcept { return frequent + (all - last); }
  constexpr std::size_t token(std::size_t row) const noexcept { return row < frequent ? row : last + (row - frequent); }
  // A bit per row of a mask with a bit per token; what lies beyond its words is excluded, nothing by an empty one.
  std::vector<std::uint32_t> mask(std::span<const std::uint32_t> tokens) const {
    if (is_whole() || tokens.empty()) return {tokens.begin(), tokens.end()};
    std::vector<std::uint32_t> words((rows() + 31) / 32);
    for (std::size_t row = 0; row < rows(); ++row) {
      const std::size_t id = token(row);
      if (id / 32 < tokens.size()) words[row / 32] |= (tokens[id / 32] >> id % 32 & 1U) << row % 32;
    }
    return words;
  }
};

}  // namespace qwen35
