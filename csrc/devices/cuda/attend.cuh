// attend: out = softmax(q k^T / sqrt(A)) v * sigmoid(gate).
//
// The pages of a query are cut into spans by their number alone, at most kMostSpans; keys of a span are taken in order,
// and spans are merged in order. So a row's result has the same bits in any company, and whether one block of threads
// takes all spans or each has a block of its own, the last of which merges them.
//
// For segments of one row it does what norm_rope_append does too, step by step, with the same bits: every block
// prepares its queries, that of the last span also the key and the value, which nobody else reads.
#pragma once

#include "devices/cuda/attend_values.cuh"

namespace qwen35::cuda {

struct Spans {
  unsigned pages;  // of each, but the last
  unsigned count;
};
DEVICE Spans spans_of(unsigned pages) {
  const unsigned length = (pages + kMostSpans - 1) / kMostSpans;
  return {length, (pages + length - 1) / length};
}

// Task `number`, the longest first. Blocks of rows lie at fixed positions, so that none reaches into the next page; as
// a segment may begin anywhere in one, there can be blocks without rows. Returns the segment; null where there are
// none.
DEVICE const SegmentView* find_task(Task& task, const AttendArgs& args, unsigned number) {
  task.kv_head = number % args.layer.kv_heads;
  unsigned block = number / args.layer.kv_heads;
  const SegmentView* s = args.step.segments;
  for (unsigned i = 0; i < args.step.segment_count; ++i, ++s) {
    const unsigned blocks = s->count == 0 ? 0 : (s->count + args.block_rows - 2) / args.block_rows + 1;
    if (block < blocks) break;
    block -= blocks;
  }
  const unsigned start = (s->position / args.block_rows + block) * args.block_rows;
  const unsigned end = s->position + s->count;
  task.position = start > s->position ? start : s->position;
  if (task.position >= end) return nullptr;
  task.row = s->first + task.position - s->position;
  task.count = ((start + args.block_rows < end ? start + args.block_rows : end) - task.position) * args.group;
  return s;
}

// Keys of one tile, from `slot` of a page on.
struct KeyTile {
  Byte* page;
  unsigned slot;
  unsigned first;  // position
  unsigned seen;   // by the last query
};

// Keys that a query does not see, and those of a warp that none sees.
template <unsigned kTiles>
DEVICE void hide(Scores<kTiles>& s, const AttendRoom<kTiles>& room, unsigned position) {
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    for (unsigned r = 0; r < 4; ++r) {
      if (position + r / 2 * 8 >= room.limits[query_of(n, r)]) s[n][r] = -INFINITY;
    }
  }
}

template <bool kIsFloat, unsigned kTiles>
DEVICE void attend_plain(AttendRoom<kTiles>& room, Partial<kTiles>& partial, const AttendArgs& args, const Task& task,
                         const KeyTile& tile) {
  const unsigned format = kIsFloat ? kKvF32 : kKvF16, width = args.layer.width;
  const Byte* keys = plain_keys(tile.page, args.layer, format, task.kv_head);
  const Byte* values = plain_values(tile.page, args.layer, format, task.kv_head);
  const unsigned mine = warp_id() * kWarpKeys;
  Scores<kTiles> s = {};
  if (tile.first + mine < tile.seen) {
    if (kIsFloat) {
      score_floats<kTiles>(s, room, keys, tile.slot + mine, width);
    } else {
      score_halves<kTiles>(s, room, keys, tile.slot + mine, width);
    }
  }
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    for (unsigned r = 0; r < 4; ++r) s[n][r] *= args.scale * room.unscale[query_of(n, r)];
  }
  if (tile.first + kTileKeys > task.first_unsure()) hide<kTiles>(s, room, tile.first + mine + fragment_row());
  softmax_step<kIsFloat ? PForm::kFloats : PForm::kHalves, kTiles>(room, partial, s);
  if (kIsFloat) {
    add_floats(partial, room, values, tile.slot, width, tile.first);
  } else {
    const unsigned chunks = (tile.seen - tile.first + 15) / 16;
    add_halves(partial, room, values, tile.slot, width, chunks < kAttendWarps ? chunks : kAttendWarps, tile.first,
               task.first_unsure());
  }
}

template <bool kWideKeys, bool kWideValues, unsigned kTiles>
DEVICE void attend_codes(AttendRoom<kTiles>& room, Partial<kTiles>& partial, const AttendArgs& args, const Task& task,
                         const KeyTile& tile) {
  constexpr unsigned kFormat = !kWideKeys ? kKvQ4 : kWideValues ? kKvQ8 : kKvK8V4;
  const QuantisedHead head = quantised_head(tile.page, args.layer, kFormat, task.kv_head);
  Scores<kTiles> s = {};
  score_codes<kWideKeys, kTiles>(s, room, head, tile.slot + warp_id() * kWarpKeys, args.layer.width);
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    for (unsigned r = 0; r < 4; ++r) s[n][r] *= args.scale;
  }
  softmax_step<PForm::kCodes, kTiles>(room, partial, s);
  add_codes<kWideValues, kTiles>(partial, room, head, tile.slot, args.layer.width);
}

template <unsigned kTiles>
DEVICE void attend_tile(AttendRoom<kTiles>& room, Partial<kTiles>& partial, const AttendArgs& args, const Task& task,
                        const KeyTile& tile, unsigned format, bool is_packed) {
  if (format == kKvF32) return attend_plain<true, kTiles>(room, partial, args, task, tile);
  if (!is_packed) return attend_plain<false, kTiles>(room, partial, args, task, tile);
  if (format == kKvQ8) return attend_codes<true, true, kTiles>(room, partial, args, task, tile);
  if (format == kKvQ4) return attend_codes<false, false, kTiles>(room, partial, args, task, tile);
  attend_codes<true, false, kTiles>(room, partial, args, task, tile);
}

// Pages [first, last). Afterwards all threads of a query know its sum.
template <unsigned kTiles>
DEVICE void attend_span(AttendRoom<kTiles>& room, Partial<kTiles>& partial, const AttendArgs& args, const Task& task,
                        const SegmentView& s, unsigned first, unsigned last) {
  partial = {};
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    // The lowest finite number, not -infinity: the first step's exp(lowest - m) is then 0, not NaN.
    for (unsigned c = 0; c < 2; ++c) partial.m[n][c] = kLowest;
  }
  const unsigned seen = task.position + (task.count - 1) / args.group + 1;
  for (unsigned page = first; page < last; ++page) {
    const bool is_packed = is_quantised(s.format) && reads_quantised(page, task.own_page());
    Byte* data = args.step.pages[(is_packed ? s.quantised_pages : s.plain_pages) + page];
    for (unsigned slot = 0; slot < kPageKeys && page * kPageKeys + slot < seen; slot += kTileKeys) {
      attend_tile<kTiles>(room, partial, args, task, {data, slot, page * kPageKeys + slot, seen}, s.format, is_packed);
    }
  }
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    for (unsigned c = 0; c < 2; ++c) {
      float sum = partial.sum[n][c];
      for (int step = 4; step < 32; step *= 2) sum += __shfl_xor_sync(kAllLanes, sum, step);
      if (fragment_row() == 0) room.sums[warp_id()][query_of(n, c)] = sum;
    }
  }
  __syncthreads();
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    for (unsigned c = 0; c < 2; ++c) {
      float sum = room.sums[0][query_of(n, c)];
      for (unsigned w = 1; w < kAttendWarps; ++w) sum += room.sums[w][query_of(n, c)];
      partial.sum[n][c] = sum;
    }
  }
}

// Results through shared memory, where a warp finds a whole head: rotated back, divided by the sum, gated.
template <unsigned kTiles>
DEVICE void finish(AttendRoom<kTiles>& room, const Partial<kTiles>& total, const AttendArgs& args, const Task& task,
                   unsigned format) {
  const unsigned width = args.layer.width;
  __syncthreads();
  UNROLL(4)
  for (unsigned n = 0; n < kTiles; ++n) {
    for (unsigned r = 0; r < 4; ++r) {
      const unsigned q = query_of(n, r);
      for (unsigned j = 0; j < 2; ++j) room.queries.rows[q][first_element() + 2 * j + r / 2] = total.values[j][n][r];
      if (warp_id() == 0 && fragment_row() == 0) room.sums[0][q] = total.sum[n][r % 2];
    }
  }
  __syncthreads();
  for (unsigned q = warp_id(); q < task.count; q += kAttendWarps) {
    const unsigned row = task.row + q / args.group, head = task.kv_head * args.group + q % args.group;
    Head x;
    load_head(x, room.queries.rows[q], width);
    if (is_quantised(format)) hadamard(x, width);
    const float scale = 1.0f / room.sums[0][q];
    const float* gate = args.q_gate.data + row * args.q_gate.stride + (2 * head + 1) * width;
    for (unsigned i = 0; i < kHeadParts; ++i) {
      const unsigned a = lane_id() + kWarp * i;
      if (a < width) x[i] = x[i] * scale * sigmoid(gate[a]);
    }
    store_head(args.out.data + row * args.out.stride + head * width, x, width);
    if (args.to.codes == nullptr) continue;
    const unsigned long long block =
        (row * static_cast<unsigned long long>(args.out.cols) + head * width) / kBlockColumns;
    for (unsigned i = 0; i < kHeadParts; ++i) {
      if (i * kBlockColumns < width) quantise_one(args.to, block + i, x[i], true);
    }
  }
}

// norm_rope_append of the task's one row: angles for its queries, and the new key and value where this block reads
// them.
template <unsigned kTiles>
DEVICE void append(AttendRoom<kTiles>& room, const AttendArgs& args, const Task& task, const SegmentView& s,
                   bool is_last_span) {
  take_angles(head_room(room), args.append, args.step.positions + 3 * task.row);
  if (!is_last_span) return;
  // The last warps: with fewer queries than warps they have none.
  const NewRow at = new_row(args.step, s, task.row, task.kv_head);
  Head x;
  if (warp_id() == kAttendWarps - 1) append_key(x, head_room(room), args.append, args.layer, at);
  if (warp_id() == kAttendWarps - 2) append_value(x, args.append, args.layer, at);
}

// Grid: (tasks, spans or 1).
template <unsigned kTiles>
DEVICE void attend(const AttendArgs& args) {
  static_assert(sizeof(AttendRoom<kTiles>) == attend_room_bytes(kTiles));
  auto& room = *reinterpret_cast<AttendRoom<kTiles>*>(shared_memory());
  const unsigned number = gridDim.x - 1 - blockIdx.x;
  Task task;
  const SegmentView* s = find_task(task, args, number);
  if (s == nullptr) return;
  const unsigned pages = task.own_page() + 1;
  const Spans spans = spans_of(pages);
  const bool takes_all = gridDim.y == 1;
  if (blockIdx.y >= spans.count) return;
  if (appends(args)) append(room, args, task, *s, takes_all || blockIdx.y + 1 == spans.count);
  load_queries<kTiles>(room, args, task, s->format);
  Partial<kTiles> total;
  const Part<kTiles> parts{args.parts + static_cast<unsigned long long>(number) * gridDim.y * Part<kTiles>::kFloats};
  const auto part = [&](unsigned i) { return Part<kTiles>{parts.at + i * Part<kTiles>::kFloats}; };
  for (unsigned i = blockIdx.y; i < (takes_all ? spans.count : blockIdx.y + 1); ++i) {
    Partial<kTiles> span;
    const unsigned end = (i + 1) * spans.pages;
    attend_span<kTiles>(room, span, args, task, *s, i * spans.pages, end < pages ? end : pages);
    if (i == 0 || !takes_all) {
      total = span;
    } else {
      parts.load_values(total);
      Part<kTiles>::load_sums(total, parts.sums());
      combine<kTiles>(total, span);
      __syncthreads();  // all have loaded it
    }
    if (spans.count > 1 && !(takes_all && i + 1 == spans.count)) part(takes_all ? 0 : i).store(total);
  }
  if (!takes_all && spans.count > 1) {
    if (!arrives_last(args.arrived + number, spans.count, room.is_last)) return;
    merge_parts<kTiles>(total, room, parts.at, spans.count);
  }
  finish<kTiles>(room, total, args, task, s->format);
}

KERNEL(attend_1, kAttendThreads, 2)(AttendArgs args) {
  await_predecessor();
  attend<1>(args);
}
KERNEL(attend_2, kAttendThreads, 1)(AttendArgs args) {
  await_predecessor();
  attend<2>(args);
}
KERNEL(attend_4, kAttendThreads, 1)(AttendArgs args) {
  await_predecessor();
  attend<4>(args);
}

}  // namespace qwen35::cuda
