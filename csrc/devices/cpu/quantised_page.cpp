#include "devices/cpu/quantised_page.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "base/round_up.h"
#include "devices/cpu/matmul.h"
#include "devices/places.h"
#include "tensor/blocks.h"
#include "tensor/encoders.h"
#include "tensor/half.h"

namespace qwen35::cpu {
namespace {

constexpr std::size_t kProbabilityBlocks = kPageSlots / kQuantisedColumns;
constexpr std::uint16_t kHalfNaN = 0x7e00;
constexpr std::size_t kStep = 8 * kBlock;  // values encoded at a time: as many blocks as the encoders search together

constexpr DType kQ8Type = DType::kQ8_0, kQ4Type = DType::kIQ4_NL;

// Up to kStep values, whole blocks. `row` is left without its infinities and NaNs.
void encode_values(DType dtype, float* row, std::size_t count, std::byte* to) noexcept {
  bool is_damaged[kStep / kBlock] = {};
  for (std::size_t i = 0; i < count; ++i) {
    if (std::isfinite(row[i])) continue;
    is_damaged[i / kBlock] = true;
    row[i] = 0.0F;
  }
  if (dtype == kQ8Type) {
    encode_q8_0(row, nullptr, count, to);
  } else {
    encode_iq4_nl_in_passing(row, count, to);
  }
  const std::size_t bytes = info(dtype).block_bytes;
  for (std::size_t block = 0; block < count / kBlock; ++block) {
    if (is_damaged[block]) std::memcpy(to + block * bytes, &kHalfNaN, sizeof kHalfNaN);  // scales come first
  }
}

// Packs a panel of `cols` columns whose value in (row, column) is read(row, column).
template <class Read>
void pack_panel(DType dtype, std::byte* panel, std::size_t cols, Read&& read) noexcept {
  const std::size_t unit_bytes = panel_bytes(panel_format(dtype), kBlock);
  std::byte encoded[kStep / kBlock * sizeof(BlockQ8_0)];  // the larger of both
  float values[kStep];
  for (std::size_t first = 0; first < cols; first += kStep) {
    const std::size_t count = std::min(kStep, cols - first);
    for (std::size_t row = 0; row < kPanelRows; ++row) {
      for (std::size_t i = 0; i < count; ++i) values[i] = read(row, first + i);
      encode_values(dtype, values, count, encoded);
      pack_row(panel + first / kBlock * unit_bytes, row, dtype, encoded, count);
    }
  }
}

// Prefetches the start of the next page; within a page the products prefetch for themselves.
void prefetch(const std::byte* data) noexcept {
  constexpr std::size_t kAhead = 4096;
  for (std::size_t at = 0; at < kAhead; at += kLine) __builtin_prefetch(data + at);
}

// A list of rows for multiply_panel, quantised and, where that pays, interleaved.
class QuantisedRows {
 public:
  static std::size_t bytes(std::size_t blocks) noexcept {
    return kQueryBlock * blocks * sizeof(QuantisedBlock) + tile_groups(kQueryBlock) * blocks * sizeof(QuantisedTile);
  }

  QuantisedRows(const MatmulTable& table, std::size_t count, std::size_t blocks, std::byte* memory)
      : table_(table),
        count_(count),
        blocks_(blocks),
        tiles_(reinterpret_cast<QuantisedTile*>(memory)),
        quantised_(reinterpret_cast<QuantisedBlock*>(tiles_ + tile_groups(kQueryBlock) * blocks)) {}

  void quantise(std::size_t row, const float* x) noexcept {
    table_.quantise_rows(quantised_ + row * blocks_, x, blocks_);
  }

  RowLists lists(float* const* out) noexcept {
    for (std::size_t i = 0; i < count_; ++i) places_[i] = quantised_ + i * blocks_;
    RowLists rows{places_, nullptr, const_cast<float**>(out), count_};
    if (!interleaves_rows(table_, count_)) return rows;
    for (std::size_t first = 0; first < count_; first += kTileTokens) {
      table_.interleave_rows(tiles_ + first / kTileTokens * blocks_, places_ + first,
                             std::min(kTileTokens, count_ - first), blocks_);
    }
    rows.tiles = tiles_;
    rows.blocks = blocks_;
    return rows;
  }

 private:
  const MatmulTable& table_;
  std::size_t count_;
  std::size_t blocks_;
  QuantisedTile* tiles_;
  QuantisedBlock* quantised_;
  const QuantisedBlock* places_[kQueryBlock];
};

}  // namespace

QuantisedPage::QuantisedPage(KvFormat format, const AttentionShape& shape)
    : keys_(format == KvFormat::kQ4 ? kQ4Type : kQ8Type),
      values_(format == KvFormat::kQ8 ? kQ8Type : kQ4Type),
      kv_heads_(shape.kv_heads),
      width_(shape.width) {
  check_kv_width(format, width_);
}

std::size_t QuantisedPage::head_bytes() const noexcept {
  return key_panels() * panel_bytes(key_format(), width_) + value_panels() * panel_bytes(value_format(), kPageSlots);
}

std::size_t QuantisedPage::key_panel_at(std::size_t kv_head, std::size_t panel) const noexcept {
  return kv_head * head_bytes() + panel * panel_bytes(key_format(), width_);
}

std::size_t QuantisedPage::value_panel_at(std::size_t kv_head, std::size_t panel) const noexcept {
  return key_panel_at(kv_head, key_panels()) + panel * panel_bytes(value_format(), kPageSlots);
}

void QuantisedPage::pack(std::byte* packed, const std::byte* open, std::size_t panel) const noexcept {
  const std::size_t per_head = key_panels() + value_panels(), head = panel / per_head;
  const auto* halves = reinterpret_cast<const std::uint16_t*>(open);
  panel %= per_head;
  if (panel < key_panels()) {
    const std::uint16_t* keys = halves + head * kPageSlots * width_;  // [256 / 16][A][16]
    pack_panel(keys_, packed + key_panel_at(head, panel), width_, [&](std::size_t row, std::size_t a) {
      const std::size_t slot = panel * kPanelRows + row;
      return half_to_float(keys[slot / kKeyLanes * kKeyLanes * width_ + a * kKeyLanes + slot % kKeyLanes]);
    });
  } else {
    panel -= key_panels();
    const std::uint16_t* values = halves + (kv_heads_ + head) * kPageSlots * width_;  // [256][A]
    pack_panel(values_, packed + value_panel_at(head, panel), kPageSlots, [&](std::size_t row, std::size_t slot) {
      return half_to_float(values[slot * width_ + panel * kPanelRows + row]);
    });
  }
}

std::size_t quantised_scratch_bytes(std::size_t width) noexcept {
  return QuantisedRows::bytes(width / kQuantisedColumns) + QuantisedRows::bytes(kProbabilityBlocks) +
         kQueryBlock * kPageSlots * sizeof(float);
}

void attend_packed(const Table& table, const QuantisedPage& page, const PackedAttendArgs& args,
                   std::byte* scratch) noexcept {
  const std::size_t width = page.width(), count = args.count;
  auto* scores = reinterpret_cast<float*>(scratch);
  scratch += kQueryBlock * kPageSlots * sizeof(float);
  QuantisedRows queries(table.matmul, count, width / kQuantisedColumns, scratch);
  QuantisedRows probabilities(table.matmul, count, kProbabilityBlocks,
                              scratch + QuantisedRows::bytes(width / kQuantisedColumns));
  float* score_rows[kQueryBlock];
  float* value_rows[kQueryBlock];
  for (std::size_t i = 0; i < count; ++i) {
    score_rows[i] = scores + i * kPageSlots;
    value_rows[i] = args.values + i * width;
    args.m[i] = std::numeric_limits<float>::lowest();
    args.sum[i] = 0.0F;
    std::fill_n(value_rows[i], width, 0.0F);
    queries.quantise(i, args.queries[i]);
  }
  const RowLists query_rows = queries.lists(score_rows);
  for (std::size_t p = 0; p < args.pages.size(); ++p) {
    const std::byte* data = args.pages[p];
    for (std::size_t i = 0; i < page.key_panels(); ++i) {
      const Panel panel{data + page.key_panel_at(args.kv_head, i), page.key_format(), width, kPanelRows};
      multiply_panel(table.matmul, panel, query_rows, i * kPanelRows, false);
    }
    for (std::size_t i = 0; i < count; ++i) {
      const float alpha = table.softmax_step(score_rows[i], kPageSlots, args.scale, args.m + i, args.sum + i);
      if (alpha != 1.0F) table.scale_row(value_rows[i], alpha, width);
      probabilities.quantise(i, score_rows[i]);
    }
    const RowLists probability_rows = probabilities.lists(value_rows);
    if (p + 1 < args.pages.size()) prefetch(args.pages[p + 1] + page.key_panel_at(args.kv_head, 0));
    for (std::size_t i = 0; i < page.value_panels(); ++i) {
      const Panel panel{data + page.value_panel_at(args.kv_head, i), page.value_format(), kPageSlots, kPanelRows};
      multiply_panel(table.matmul, panel, probability_rows, i * kPanelRows, true);
    }
  }
}

}  // namespace qwen35::cpu
