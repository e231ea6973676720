// A page of keys and values in 8 or 4 bits. Per key/value head: the keys as panels of a matrix [256, A], then the
// values, transposed, as panels of [A, 256]. Scores (q K^T) and outputs (p V) are then products with panels, computed
// by the kernels of the weights.
//
// Blocks of 32 run along A in the keys and along the tokens in the values. Q8_0 and IQ4_NL, with the encoders' search
// for the scale of least squared error; a block that holds an infinity or NaN has NaN for its scale.
#pragma once

#include <cstddef>
#include <span>

#include "backend/backend.h"
#include "devices/cpu/kernels.h"
#include "devices/cpu/panels.h"

namespace qwen35::cpu {

class QuantisedPage {
 public:
  // Throws InputError for a width that is not whole blocks.
  QuantisedPage(KvFormat format, const AttentionShape& shape);

  std::size_t width() const noexcept { return width_; }
  std::size_t bytes() const noexcept { return kv_heads_ * head_bytes(); }
  std::size_t key_panels() const noexcept { return kPageSlots / kPanelRows; }
  std::size_t value_panels() const noexcept { return width_ / kPanelRows; }
  PanelFormat key_format() const noexcept { return panel_format(keys_); }
  PanelFormat value_format() const noexcept { return panel_format(values_); }
  std::size_t key_panel_at(std::size_t kv_head, std::size_t panel) const noexcept;
  std::size_t value_panel_at(std::size_t kv_head, std::size_t panel) const noexcept;

  // A page is packed panel by panel, [0, panels()), from its open form in fp16.
  std::size_t panels() const noexcept { return kv_heads_ * (key_panels() + value_panels()); }
  void pack(std::byte* packed, const std::byte* open, std::size_t panel) const noexcept;

 private:
  std::size_t head_bytes() const noexcept;

  DType keys_;
  DType values_;
  std::size_t kv_heads_;
  std::size_t width_;
};

// Up to kQueryBlock queries of one key/value head over whole packed pages, all of which every query sees.
struct PackedAttendArgs {
  const float* const* queries;  // [count] pointers to [A], rotated as the keys are
  std::size_t count;
  std::span<std::byte* const> pages;
  std::size_t kv_head;
  float scale;
  float* m;       // [count], the partial softmax as in AttendArgs
  float* sum;     // [count]
  float* values;  // [count, A]
};

std::size_t quantised_scratch_bytes(std::size_t width) noexcept;
void attend_packed(const Table& table, const QuantisedPage& page, const PackedAttendArgs& args,
                   std::byte* scratch) noexcept;

}  // namespace qwen35::cpu
