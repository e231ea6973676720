// Appending tokens to sequences: one pass over the model per chunk, several sequences side by side.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

#include "sequence/sequence.h"

namespace qwen35 {

enum class Output { kNone, kLast, kAll };

struct StepItem {
  Sequence* sequence;
  std::span<const Token> tokens;
  std::span<const InputRows> inputs;
  Output output;
  float* logits;  // host memory, [rows, V] with rows = logit_rows()

  std::size_t logit_rows() const noexcept {
    return output == Output::kNone ? 0 : output == Output::kAll ? tokens.size() : 1;
  }
};

inline constexpr std::size_t kChunkTokens = 512;
inline constexpr std::size_t kMostChunkTokens = 8192;

// Reads at most chunk_tokens rows per pass; results do not depend on it. `pause` is called between passes with nothing
// locked, and what it throws ends the reading. Throws InputError before anything is changed; Cancelled between two
// passes, when each sequence stands at the end of the last one.
void evaluate(std::span<const StepItem> items, std::size_t chunk_tokens, const std::function<void()>& pause);

// The same for a sequence already in use for reading.
void evaluate(const Sequence::Use& use, std::span<const Token> tokens, std::size_t chunk_tokens,
              const std::function<void()>& pause);

}  // namespace qwen35
