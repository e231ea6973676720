// What one pass reads: built once on the host, handed to the device once, the same for every layer.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "backend/shape.h"
#include "tensor/device_ptr.h"

namespace qwen35 {

using Token = std::int32_t;

inline constexpr std::size_t kPageTokens = 256;
inline constexpr std::uint32_t kMostUncertain = 16;                   // rows of a pass that may be taken back
inline constexpr std::uint32_t kMostTokens = std::uint32_t{1} << 30;  // of a sequence

// Where a row stands for its rotary embedding: in time, height and width. Equal for text.
struct Position {
  std::int32_t t, h, w;

  constexpr std::int32_t along(std::uint32_t axis) const noexcept { return axis == 0 ? t : axis == 1 ? h : w; }
  friend bool operator==(const Position&, const Position&) = default;
};

// A page of keys and values and a slot of recurrent state, in the pools of one device. Used again once freed.
enum class PageId : std::uint32_t {};
enum class SlotId : std::uint32_t {};
inline constexpr PageId kNoPage{0xffffffffU};
inline constexpr SlotId kNoSlot{0xffffffffU};

// Rows [first, first + count) of the batch are consecutive tokens of one sequence.
struct StepSegment {
  std::uint32_t first;
  std::uint32_t count;
  std::uint32_t position;   // cache index of the first row
  std::uint32_t committed;  // what the recurrent state holds for good, <= position; rows from there on are certain now
  std::uint32_t certain;    // leading rows of the segment that cannot be taken back
  SlotId state;
  KvFormat format;
  // Where its page ids begin in the page table: pages() of the plain form, and in the quantised formats as many of the
  // quantised one. kNoPage where a page is not kept in that form (KvPool::keeps).
  std::uint32_t plain_pages;
  std::uint32_t quantised_pages;

  std::uint32_t end() const noexcept { return position + count; }
  std::size_t pages() const noexcept { return (std::size_t{end()} + kPageTokens - 1) / kPageTokens; }
};

// A row that is no token: D floats on the device instead of a row of the embedding table.
struct InputRow {
  std::uint32_t row;
  DevicePtr<const float> values;
};

struct Step {
  std::span<const Token> tokens;        // [T]
  std::span<const Position> positions;  // [T]
  std::span<const StepSegment> segments;
  std::span<const PageId> page_table;
  std::span<const std::uint32_t> outputs;  // rows whose last hidden state is wanted, ascending
  std::span<const InputRow> inputs;
};

// The arrays behind a Step, which keep their memory from pass to pass.
struct StepArrays {
  std::vector<Token> tokens;
  std::vector<Position> positions;
  std::vector<StepSegment> segments;
  std::vector<PageId> page_table;
  std::vector<std::uint32_t> outputs;
  std::vector<InputRow> inputs;

  Step view() const noexcept { return {tokens, positions, segments, page_table, outputs, inputs}; }
  void clear() noexcept {
    tokens.clear();
    positions.clear();
    segments.clear();
    page_table.clear();
    outputs.clear();
    inputs.clear();
  }
};

}  // namespace qwen35
