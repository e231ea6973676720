#include "devices/cuda/attention_work.h"

#include <algorithm>
#include <bit>

#include "base/round_up.h"

namespace qwen35::cuda {
namespace {

constexpr unsigned kTileChoices[] = {4, 2, 1};

// Partial softmaxes of one call take no more than this; beyond it there are blocks of threads enough without.
constexpr std::size_t kPartsFloats = (std::size_t{64} << 20) / sizeof(float);

// As spans_of in attend.cuh.
std::size_t spans_of(std::size_t pages) noexcept {
  return pages == 0 ? 1 : ceil_div(pages, ceil_div(pages, kMostSpans));
}

// Blocks of rows lie at fixed positions: there may be one more than would hold the rows.
std::size_t blocks_of(std::size_t rows, std::size_t block_rows) noexcept {
  return rows == 0 ? 0 : (rows + block_rows - 2) / block_rows + 1;
}

}  // namespace

AttendPlan::AttendPlan(const AttentionShape& shape, std::span<const StepSegment> segments,
                       unsigned multiprocessors) noexcept {
  if (shape.kv_heads == 0) return;
  const unsigned group = shape.heads / shape.kv_heads;
  std::size_t most_rows = 0, most_spans = 1;
  for (const StepSegment& s : segments) {
    if (s.count == 0) continue;
    most_rows = std::max<std::size_t>(most_rows, s.count);
    most_spans = std::max(most_spans, spans_of(s.pages()));
  }
  const std::size_t beside = std::bit_ceil(most_spans);
  // As many queries together as leave a block of threads for every multiprocessor.
  for (const unsigned choice : kTileChoices) {
    if (choice * kTileQueries < group) break;
    tiles = choice;
    block_rows = std::bit_floor(choice * kTileQueries / group);
    tasks = 0;
    for (const StepSegment& s : segments) tasks += blocks_of(s.count, block_rows) * shape.kv_heads;
    const bool is_too_wide = choice > 1 && choice * kTileQueries / 2 >= most_rows * group;
    if (!is_too_wide && tasks * beside >= multiprocessors) break;
  }
  has_parts = most_spans > 1;
  const bool is_alone =
      tasks >= std::size_t{4} * multiprocessors || tasks * beside * attend_part_floats(tiles) > kPartsFloats;
  if (has_parts && !is_alone) spans = beside;
}

namespace {

// Room in powers of two, so that the addresses, which graphs hold, stay.
std::size_t room(std::size_t bytes) noexcept { return bytes == 0 ? 0 : std::bit_ceil(bytes); }

std::size_t part_room(const AttendPlan& plan) noexcept { return room(plan.part_floats() * sizeof(float)); }
std::size_t counter_room(const AttendPlan& plan) noexcept { return room(plan.tasks * sizeof(unsigned)); }

}  // namespace

std::size_t attention_work_bytes(const AttendPlan& plan) noexcept { return part_room(plan) + counter_room(plan); }

void AttentionWork::reserve(Context& context, Memory& memory, const AttendPlan& plan) {
  parts_.reserve(memory, part_room(plan));
  const std::size_t counters = counter_room(plan);
  if (counters <= arrived_.bytes()) return;
  arrived_.reserve(memory, counters);
  context.fill(address(arrived_.get<std::byte>()), 0, counters);
}

}  // namespace qwen35::cuda
