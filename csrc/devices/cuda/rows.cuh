// What moves whole rows: embed, take_rows, previous_rows, kept_rows.
#pragma once

#include "devices/cuda/math.cuh"
#include "devices/cuda/panels.cuh"

namespace qwen35::cuda {

template <Format kFormat>
DEVICE float value_at(const Byte* panel, unsigned row, unsigned column) {
  if constexpr (is_float(kFormat)) {
    constexpr unsigned kColumns = unit_layout(kFormat).columns;
    return float_column<kFormat>(
        load16(panel + static_cast<unsigned long long>(column / kColumns) * kNibblePlane + row * 16),
        column % kColumns);
  } else {
    using P = Panel<kFormat>;
    const unsigned block = column / kBlockColumns, half = column % kBlockColumns / 16, t = column % 16 / 4;
    const Words words = P::words(P::word(panel, block, row, t), t);
    const int word = half == 0 ? words.first : words.second;
    const auto code = static_cast<signed char>(word >> 8 * (column % 4));
    const Scales s = P::scales(panel, block, row);
    // Chosen, not indexed: an array that is indexed lies in memory.
    const bool is_second = P::kHasHalves && half == 1;
    const float value = (is_second ? s.scale[1] : s.scale[0]) * static_cast<float>(code - P::kZero);
    return P::kHasMins ? value - (is_second ? s.min[1] : s.min[0]) : value;
  }
}

// Grid: rows.
KERNEL(embed, kRowThreads)(EmbedArgs args) {
  await_predecessor();
  float* out = args.out.data + blockIdx.x * args.out.stride;
  for (unsigned i = 0; i < args.step.input_count; ++i) {
    if (args.step.inputs[i].row != blockIdx.x) continue;
    for (unsigned c = threadIdx.x; c < args.out.cols; c += kRowThreads) out[c] = args.step.inputs[i].values[c];
    return;
  }
  const auto token = static_cast<unsigned>(args.step.tokens[blockIdx.x]);
  const unsigned group = token / args.table.group_rows, at = token % args.table.group_rows;
  const Byte* panel =
      args.table.panels +
      (static_cast<unsigned long long>(group) * args.table.group_panels + at / kPanelRows) * args.table.panel_bytes;
  with_format(args.table.format, [&](auto tag) {
    for (unsigned c = threadIdx.x; c < args.out.cols; c += kRowThreads) {
      out[c] = value_at<decltype(tag)::kValue>(panel, at % kPanelRows, c);
    }
  });
}

// Grid: output rows.
KERNEL(take_rows, kRowThreads)(TakeRowsArgs args) {
  await_predecessor();
  const float* x = args.x.data + args.step.outputs[blockIdx.x] * args.x.stride;
  float* out = args.out.data + blockIdx.x * args.out.stride;
  for (unsigned c = threadIdx.x; c < args.x.cols; c += kRowThreads) out[c] = x[c];
}

// A thread takes one column of a segment from its first row to its last, since the ring is read before it is written.
// Grid: (columns / kRowThreads, segments).
KERNEL(previous_rows, kRowThreads)(PreviousRowsArgs args) {
  await_predecessor();
  const unsigned c = blockIdx.x * kRowThreads + threadIdx.x, cols = args.x.cols;
  const SegmentView& s = args.step.segments[blockIdx.y];
  if (c >= cols || s.count == 0) return;
  float* ring = reinterpret_cast<float*>(s.state + args.hidden_at) + c;
  float before = s.position == 0 ? 0.0f : ring[(s.position - 1) % args.kept * static_cast<unsigned long long>(cols)];
  for (unsigned i = 0; i < s.count; ++i) {
    const float x = args.x.data[(s.first + i) * args.x.stride + c];
    args.out.data[(s.first + i) * args.out.stride + c] = before;
    before = x;
    if (s.count - i <= args.kept) ring[(s.position + i) % args.kept * static_cast<unsigned long long>(cols)] = x;
  }
}

// Grid: (columns / kRowThreads, segments).
KERNEL(kept_rows, kRowThreads)(KeptRowsArgs args) {
  await_predecessor();
  const unsigned c = blockIdx.x * kRowThreads + threadIdx.x, cols = args.out.cols;
  const SegmentView& s = args.step.segments[blockIdx.y];
  if (c >= cols) return;
  const float* ring = reinterpret_cast<const float*>(s.state + args.hidden_at) + c;
  for (unsigned i = 0; i < s.count; ++i) {
    args.out.data[(s.first + i) * args.out.stride + c] =
        ring[(s.position + i) % args.kept * static_cast<unsigned long long>(cols)];
  }
}

}  // namespace qwen35::cuda
