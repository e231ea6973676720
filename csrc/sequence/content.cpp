#include "sequence/content.h"

#include <algorithm>
#include <string>
#include <utility>

#include "base/error.h"

namespace qwen35 {
namespace {

InputRun run_at(std::size_t first, const InputBlock& block) {
  return {static_cast<std::uint32_t>(first), static_cast<std::uint32_t>(block.size()), block.advance(),
          block.positions().back(), block.digest()};
}

Position shifted(const Position& by, std::int32_t from) noexcept { return {from + by.t, from + by.h, from + by.w}; }

bool lies_within(const Position& position, std::uint32_t advance) noexcept {
  const auto end = static_cast<std::int32_t>(advance);
  return position.t < end && position.h < end && position.w < end;
}

// Twice the room when it runs out, so that appending stays linear.
template <class T>
void make_room(std::vector<T>& values, std::size_t more) {
  const std::size_t needed = values.size() + more;
  if (needed > values.capacity()) values.reserve(std::max(needed, 2 * values.capacity()));
}

}  // namespace

Content::Content(std::vector<Token> tokens, std::vector<InputRun> runs)
    : tokens_(std::move(tokens)), runs_(std::move(runs)) {
  std::size_t end = 0;
  for (const InputRun& run : runs_) {
    if (run.first < end || run.first >= tokens_.size() || run.count == 0 || run.advance == 0 ||
        run.advance > run.count || !lies_within(run.last, run.advance) ||
        (run.end() > tokens_.size() && &run != &runs_.back())) {
      throw InputError("input rows " + std::to_string(run.first) + " to " + std::to_string(run.end()) + " that take " +
                       std::to_string(run.advance) + " positions do not fit behind row " + std::to_string(end) +
                       " of " + std::to_string(tokens_.size()));
    }
    end = run.end();
  }
}

std::int32_t Content::rope_delta() const noexcept { return rope_delta(tokens_.size()); }

std::int32_t Content::rope_delta(std::size_t rows) const noexcept {
  std::int32_t delta = 0;
  for (const InputRun& run : runs_) {
    if (run.end() <= rows) delta += static_cast<std::int32_t>(run.advance) - static_cast<std::int32_t>(run.count);
  }
  return delta;
}

bool Content::begins_with(const Content& prefix) const noexcept {
  if (prefix.size() > size() || !std::ranges::equal(prefix.tokens(), tokens().first(prefix.size()))) return false;
  const auto shared =
      std::ranges::partition_point(runs_, [&](const InputRun& run) { return run.first < prefix.size(); });
  return std::ranges::equal(runs_.begin(), shared, prefix.runs_.begin(), prefix.runs_.end());
}

Content Content::first(std::size_t n) const {
  Content content;
  const auto end = std::ranges::partition_point(runs_, [&](const InputRun& run) { return run.first < n; });
  content.tokens_.assign(tokens_.begin(), tokens_.begin() + static_cast<std::ptrdiff_t>(n));
  content.runs_.assign(runs_.begin(), end);
  return content;
}

void Content::cut(std::size_t n) noexcept {
  tokens_.resize(n);
  while (!runs_.empty() && runs_.back().first >= n) runs_.pop_back();
}

bool Content::has_inputs(std::size_t first, std::size_t last) const noexcept {
  return std::ranges::any_of(runs_, [&](const InputRun& run) { return run.first < last && run.end() > first; });
}

void Content::check(std::size_t count, std::span<const InputRows> inputs) const {
  if (count == 0 && inputs.empty()) return;
  if (is_unfinished()) {
    const InputRun& run = runs_.back();
    const auto first = static_cast<std::ptrdiff_t>(run.first) - static_cast<std::ptrdiff_t>(size());
    if (inputs.empty() || inputs.front().first != first || run_at(run.first, *inputs.front().block) != run) {
      throw InputError("the sequence holds " + std::to_string(-first) + " of " + std::to_string(run.count) +
                       " input rows, expected the same block from there on; or restore a snapshot from before it");
    }
  } else if (!inputs.empty() && inputs.front().first < 0) {
    throw InputError("input rows begin at " + std::to_string(inputs.front().first) +
                     ", before these tokens, and the sequence has no unfinished block");
  }
  std::ptrdiff_t end = inputs.empty() ? 0 : std::min<std::ptrdiff_t>(inputs.front().first, 0);
  for (const InputRows& rows : inputs) {
    if (rows.first < end || rows.first >= static_cast<std::ptrdiff_t>(count)) {
      throw InputError("input rows at " + std::to_string(rows.first) + " do not lie behind " + std::to_string(end) +
                       " and within the " + std::to_string(count) + " tokens given");
    }
    end = rows.end();
  }
}

Position Content::position(std::size_t row) const noexcept {
  const auto next = static_cast<std::int32_t>(row + 1) + rope_delta(row + 1);  // of text behind it
  const auto run = std::ranges::find(runs_, row + 1, &InputRun::end);
  if (run != runs_.end()) return shifted(run->last, next - static_cast<std::int32_t>(run->advance));
  return {next - 1, next - 1, next - 1};
}

Position Content::previous(std::span<const InputRows> inputs) const noexcept {
  if (size() == 0) return {};
  if (!is_unfinished()) return position(size() - 1);
  const auto& [first, block] = inputs.front();
  const auto next = static_cast<std::int32_t>(size()) + rope_delta();  // of text, were all blocks whole
  return shifted(block->positions()[static_cast<std::size_t>(-first - 1)], next + static_cast<std::int32_t>(first));
}

void Content::place(std::size_t count, std::span<const InputRows> inputs, std::vector<Position>& to) const {
  auto at = static_cast<std::int32_t>(size()) + rope_delta();  // position of the next row, were it text
  std::ptrdiff_t row = 0;
  const auto text = [&](std::ptrdiff_t end) {
    for (; row < end; ++row, ++at) to.push_back({at, at, at});
  };
  const auto last = static_cast<std::ptrdiff_t>(count);
  for (const auto& [first, block] : inputs) {
    text(first);
    const auto base = first < 0 ? at + static_cast<std::int32_t>(first) : at;
    for (; row < std::min(last, first + static_cast<std::ptrdiff_t>(block->size())); ++row) {
      to.push_back(shifted(block->positions()[static_cast<std::size_t>(row - first)], base));
    }
    at = base + static_cast<std::int32_t>(block->advance());
  }
  text(last);
}

void Content::append(std::span<const Token> tokens, std::span<const InputRows> inputs) {
  for (const InputRows& rows : inputs) {
    if (rows.first >= 0) runs_.push_back(run_at(size() + static_cast<std::size_t>(rows.first), *rows.block));
  }
  tokens_.insert(tokens_.end(), tokens.begin(), tokens.end());
}

void Content::reserve(std::size_t rows, std::size_t inputs) {
  make_room(tokens_, rows);
  make_room(runs_, inputs);
}

}  // namespace qwen35
