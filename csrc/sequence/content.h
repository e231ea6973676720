// What the rows of a sequence are: token ids, and in the place of some of them rows that are not tokens. Content is
// what identifies a row: two images may have the same ids, and are told apart by their digests.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "sequence/input_rows.h"

namespace qwen35 {

// What a sequence keeps of a block: all but its rows.
struct InputRun {
  std::uint32_t first;    // cache index of its first row
  std::uint32_t count;    // of all its rows; where the content ends, some may be still to come
  std::uint32_t advance;  // positions from its first row to the text behind it, at most count
  Position last;          // of its last row, counted from its first position
  Digest digest;

  std::size_t end() const noexcept { return std::size_t{first} + count; }
  friend bool operator==(const InputRun&, const InputRun&) = default;
};

class Content {
 public:
  Content() = default;
  // Throws InputError unless the runs follow one another within the tokens, of which only the last may end beyond.
  Content(std::vector<Token> tokens, std::vector<InputRun> runs);

  std::size_t size() const noexcept { return tokens_.size(); }
  std::span<const Token> tokens() const noexcept { return tokens_; }
  std::span<const InputRun> runs() const noexcept { return runs_; }
  std::size_t bytes() const noexcept { return tokens_.size() * sizeof(Token) + runs_.size() * sizeof(InputRun); }

  // Position less cache index of text that follows. Never positive: a block takes no more positions than rows.
  std::int32_t rope_delta() const noexcept;
  bool begins_with(const Content& prefix) const noexcept;
  Content first(std::size_t n) const;
  void cut(std::size_t n) noexcept;  // to first(n)
  // Whether a row of [first, last) is no token.
  bool has_inputs(std::size_t first, std::size_t last) const noexcept;

  // Throws InputError unless `count` rows with these inputs can follow: inputs in order, all but the last of them
  // whole, and a block that is unfinished gone on with.
  void check(std::size_t count, std::span<const InputRows> inputs) const;
  // The position of a row that is text or the last one of a block.
  Position position(std::size_t row) const noexcept;
  // The position of the last row, which `inputs` go on behind. Zeros without rows.
  Position previous(std::span<const InputRows> inputs) const noexcept;
  // Appends the positions of `count` such rows to `to`.
  void place(std::size_t count, std::span<const InputRows> inputs, std::vector<Position>& to) const;
  void append(std::span<const Token> tokens, std::span<const InputRows> inputs);
  void reserve(std::size_t rows, std::size_t inputs);  // append() of no more then cannot fail

 private:
  // Position less cache index of text behind the first `rows` rows.
  std::int32_t rope_delta(std::size_t rows) const noexcept;
  bool is_unfinished() const noexcept { return !runs_.empty() && runs_.back().end() > tokens_.size(); }

  std::vector<Token> tokens_;
  std::vector<InputRun> runs_;
};

}  // namespace qwen35
