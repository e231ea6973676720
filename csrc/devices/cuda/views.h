// How a step, packed weights and activations lie in the card's memory, as host and kernels see them. Shapes in the
// alphabet of backend.h. Plain types only: both compilers read this. No structure has padding, since launches are
// compared byte by byte (Context::end_recording).
#pragma once

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic push
#pragma GCC diagnostic error "-Wpadded"
#endif

namespace qwen35::cuda {

using Byte = unsigned char;

// ---- the step -------------------------------------------------------------------------------------------------------

struct SegmentView {  // StepSegment, with the address of its state
  unsigned first;
  unsigned count;
  unsigned position;
  unsigned committed;
  unsigned certain;
  unsigned format;       // KvFormat
  unsigned plain_pages;  // where its page addresses begin in StepView::pages; null where a page is not kept
  unsigned quantised_pages;
  Byte* state;  // slot; null without one
};

struct InputRowView {
  const float* values;
  unsigned row;
  unsigned padding;
};

// Lies at the same addresses from pass to pass: what changes between tokens changes in memory, not in the launch.
struct StepView {
  const int* tokens;           // [T]
  const int* positions;        // [T, 3]: time, height, width
  const unsigned* segment_of;  // [T]
  const SegmentView* segments;
  Byte* const* pages;
  const unsigned* outputs;
  const InputRowView* inputs;
  unsigned rows;
  unsigned segment_count;
  unsigned output_count;
  unsigned input_count;
};

// ---- weights and activations ----------------------------------------------------------------------------------------

inline constexpr unsigned kPanelRows = 32;
inline constexpr unsigned kBlockColumns = 32;

// How the panels of a weight hold their numbers (packed_panels.h). In the order of PanelFormat.
enum class Format : unsigned {
  kQ4_0,
  kIQ4_NL,
  kIQ4_XS,
  kQ4_K,
  kQ5_K,
  kQ6_K,
  kQ8_0,
  kLevels,
  kAffine,
  kF32,
  kF16,
  kBF16
};

constexpr bool is_float(Format format) { return format >= Format::kF32; }

// Groups of panels of 32 rows. Panel p of group g is at panels + (g group_panels + p) panel_bytes and holds rows
// [32 p, 32 p + 32) of the group, of which those from group_rows on are not there.
struct WeightView {
  const Byte* panels;
  unsigned long long panel_bytes;
  Format format;
  unsigned cols;
  unsigned group_rows;
  unsigned group_panels;
  unsigned groups;
  unsigned padding;
};

// fp32 rows, `stride` floats apart, at any multiple of four bytes.
struct Rows {
  float* data;
  unsigned long long stride;
  unsigned rows;
  unsigned cols;
};

// 32 activations rounded to 8 bits share a scale: x ~ scale * code, scale = max |x| / 127.
struct alignas(8) BlockSums {
  float scale;
  short sum;    // of the codes
  short first;  // of the first 16
};
struct QuantisedRows {
  signed char* codes;  // [T, cols]
  BlockSums* blocks;   // [T, cols / 32]
};

}  // namespace qwen35::cuda

#if defined(__GNUC__) && !defined(__CUDACC__)
#pragma GCC diagnostic pop
#endif
