// The current pass: its Step with addresses in place of page and slot ids.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "backend/step.h"
#include "devices/cpu/pools.h"
#include "devices/places.h"

namespace qwen35::cpu {

// Rows [first, first + count) of the batch are consecutive tokens of one sequence; the first stands at `position`.
struct Segment {
  std::size_t first;
  std::size_t count;
  std::size_t position;
  std::size_t committed;  // rows [committed, position) were uncertain in the pass before and are certain now
  std::size_t certain;    // leading rows that cannot be taken back
};

// A segment and its pages in one attention layer, by number; null where there is none in that form.
struct KvSegment : Segment {
  KvFormat format;
  std::span<std::byte* const> plain;
  std::span<std::byte* const> quantised;
};

// A segment and one DeltaNet layer's recurrent state (StateLayout), which goes from `committed` to position + certain.
struct DeltaSegment : Segment {
  std::size_t pending;  // rows of keys, deltas and decays that there is room for
  float* window;
  float* state;
  float* keys;
  float* deltas;
  float* decays;
};

// A segment and the ring of its sequence's last hidden rows: that of position p is row p % kept.
struct HiddenSegment : Segment {
  std::size_t kept;
  float* rows;  // [kept, D]
};

class Pass {
 public:
  // Makes room for a step, so that begin() and what follows it allocate nothing.
  void reserve(const Step& step);
  // Throws InputError for a page or slot that is not there, or not of the pools that the others come from.
  void begin(const Step& step, const Pages& pages, const Slots& slots);

  const Step& step() const noexcept { return places_.step(); }

  // The segments as one layer of its kind sees them, until the next call. Throws InputError where a segment has no
  // pages or state of this shape and layer.
  std::span<const KvSegment> attention(const AttentionShape& shape, std::uint32_t layer);
  std::span<const DeltaSegment> delta_net(const DeltaShape& shape, std::uint32_t layer);
  // The same for hidden rows of this width.
  std::span<const HiddenSegment> hidden(std::size_t width);

 private:
  StepPlaces places_;
  std::vector<std::byte*> layer_pages_;
  std::vector<KvSegment> kv_segments_;
  std::vector<DeltaSegment> delta_segments_;
  std::vector<HiddenSegment> hidden_segments_;
  std::optional<std::uint32_t> layer_;  // that layer_pages_ is of
};

}  // namespace qwen35::cpu
