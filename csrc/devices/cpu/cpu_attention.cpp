// Attention on the CPU: who computes which queries against which keys. The arithmetic of a query depends on its own
// position alone: keys in splits at fixed positions, merged in order. So whether a worker takes all splits of
// a query or one of them changes no bit.
#include <algorithm>
#include <bit>
#include <cmath>

#include "base/round_up.h"
#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/host.h"
#include "devices/cpu/quantised_page.h"
#include "devices/cpu/step_work.h"

namespace qwen35::cpu {
namespace {

// Partial softmaxes of one call take no more than this; beyond it a worker keeps a query to itself.
constexpr std::size_t kPartsFloats = (std::size_t{64} << 20) / sizeof(float);

// Rows of heads to normalise and turn that are worth waking one more worker for.
constexpr std::size_t kRowGrain = 16;

// Multiplications that are worth waking one more worker for: some ten microseconds.
constexpr std::size_t kGrainProducts = 1 << 19;

// Of the pages that are read element by element: fp16 but for kF32.
std::size_t index(KvFormat format) { return format == KvFormat::kF32 ? kKvF32 : kKvF16; }

// A partial softmax per query: m [n], sum [n], values [n, A] in one block of floats.
struct Partial {
  float* m;
  float* sum;
  float* values;

  Partial(float* block, std::size_t queries) : m(block), sum(block + queries), values(sum + queries) {}
  static std::size_t floats(std::size_t queries, std::size_t width) { return queries * (width + 2); }
};

// Keys [first, last), read in one form.
struct KvSplit {
  std::size_t first;
  std::size_t last;
  bool is_quantised;
};

// What the queries of one task read: the first of them `first` keys and the last one `last`, which lies in one page
// with it.
struct Reach {
  KvFormat format;
  std::size_t first;
  std::size_t last;

  std::size_t own_page() const { return (first - 1) / kPageTokens; }
  // The first page that a packed format reads open again; kFirstQuantisedPage when nothing is read packed.
  std::size_t first_newest_page() const {
    return std::max(own_page() + 1, kFirstQuantisedPage + kNewestPlainPages) - kNewestPlainPages;
  }
  bool has_quantised() const { return is_quantised(format) && first_newest_page() > kFirstQuantisedPage; }

  // Plain: every kKvSplit keys. Packed: the first page; the packed pages, cut at every kKvSplit keys; the newest pages.
  std::size_t splits() const {
    if (!is_quantised(format)) return ceil_div(last, kKvSplit);
    return has_quantised() ? 2 + ceil_div(first_newest_page() * kPageTokens, kKvSplit) : 1;
  }
  KvSplit split(std::size_t i) const {
    if (!is_quantised(format)) return {i * kKvSplit, (i + 1) * kKvSplit, false};
    const std::size_t newest = first_newest_page() * kPageTokens, end = (own_page() + 1) * kPageTokens;
    if (!has_quantised()) return {0, end, false};
    if (i == 0) return {0, kFirstQuantisedPage * kPageTokens, false};
    if (i + 1 == splits()) return {newest, end, false};
    return {std::max((i - 1) * kKvSplit, kFirstQuantisedPage * kPageTokens), std::min(i * kKvSplit, newest), true};
  }
};

// The queries of one task: all heads of one key/value head for a few consecutive rows of one page.
struct Queries {
  const float* rows[kQueryBlock];
  std::size_t limits[kQueryBlock];
  std::size_t count = 0;
  std::size_t first_row = 0;  // of the batch
  std::size_t kv_head = 0;
  const KvSegment* segment = nullptr;

  Reach reach() const { return {segment->format, limits[0], limits[count - 1]}; }
};

// How the queries of a step are cut into tasks.
struct AttendTasks {
  std::size_t group;       // query heads per key/value head
  std::size_t block_rows;  // rows per task
  std::size_t count = 0;
  std::size_t most_splits = 0;
  std::size_t block_queries = 0;  // of the largest task
  std::size_t products = 0;       // multiplications in all

  AttendTasks(const AttentionShape& shape, std::span<const StepSegment> segments)
      : group(shape.heads / shape.kv_heads), block_rows(std::bit_floor(kQueryBlock / group)) {
    for (const StepSegment& s : segments) {
      if (s.count == 0) continue;
      const std::size_t position = s.position, end = s.end(), rows = s.count;
      const std::size_t last_block = (end - 1) / block_rows * block_rows;
      count += blocks(position, rows) * shape.kv_heads;
      most_splits = std::max(most_splits, Reach{s.format, std::max(last_block, position) + 1, end}.splits());
      products += 2 * rows * end * shape.heads * shape.width;
      block_queries = std::max(block_queries, std::min(block_rows, rows) * group);
    }
  }

  // Blocks of rows lie at fixed positions, so that none reaches from one page into the next.
  std::size_t blocks(std::size_t position, std::size_t rows) const {
    return rows == 0 ? 0 : ceil_div(position + rows, block_rows) - position / block_rows;
  }

  // As many as have some ten microseconds to do each.
  std::size_t most_workers() const { return products / kGrainProducts + 1; }

  // Whether the splits of a query are spread: where tasks are few and long, and their partial softmaxes not too large.
  bool spreads_splits(unsigned workers, std::size_t width) const {
    return workers > 1 && count < std::size_t{2} * workers && most_splits > 1 && spread_floats(width) <= kPartsFloats;
  }
  std::size_t spread_floats(std::size_t width) const {
    return count * most_splits * Partial::floats(block_queries, width);
  }
};

// Of a worker that takes a task through all its splits: what is summed, and what comes to it.
std::size_t own_floats(std::size_t width) { return 2 * Partial::floats(kQueryBlock, width); }

}  // namespace

// One call's work, cut into tasks.
struct AttendPlan {
  Tensor out;
  Tensor q_gate;
  AttentionShape shape;
  std::span<const KvSegment> segments;
  AttendTasks tasks;

  Queries queries(std::size_t task) const {
    const KvSegment* s = segments.data();
    for (std::size_t n; task >= (n = tasks.blocks(s->position, s->count) * shape.kv_heads); ++s) task -= n;
    Queries q;
    q.segment = s;
    q.kv_head = task % shape.kv_heads;
    const std::size_t group = tasks.group, block_rows = tasks.block_rows;
    const std::size_t start = (s->position / block_rows + task / shape.kv_heads) * block_rows;
    const std::size_t first = std::max(start, s->position) - s->position;
    q.first_row = s->first + first;
    for (std::size_t t = first; t < std::min(start + block_rows - s->position, s->count); ++t) {
      for (std::size_t h = 0; h < group; ++h, ++q.count) {
        q.rows[q.count] = query(s->first + t, q.kv_head * group + h);
        q.limits[q.count] = s->position + t + 1;
      }
    }
    return q;
  }

  const float* query(std::size_t row, std::size_t head) const { return cpu::row(q_gate, row) + head * 2 * shape.width; }

  float scale() const { return 1.0F / std::sqrt(static_cast<float>(shape.width)); }

  void run_split(const Table& table, const Queries& q, std::size_t number, const Partial& to,
                 std::byte* scratch) const {
    const KvSplit split = q.reach().split(number);
    if (split.is_quantised) {
      const std::size_t first = split.first / kPageTokens, count = split.last / kPageTokens - first;
      attend_packed(table, QuantisedPage(q.segment->format, shape),
                    {.queries = q.rows,
                     .count = q.count,
                     .pages = q.segment->quantised.subspan(first, count),
                     .kv_head = q.kv_head,
                     .scale = scale(),
                     .m = to.m,
                     .sum = to.sum,
                     .values = to.values},
                    scratch);
      return;
    }
    table.attend_split[index(q.segment->format)]({.queries = q.rows,
                                                  .limits = q.limits,
                                                  .count = q.count,
                                                  .pages = q.segment->plain.data(),
                                                  .kv_head = q.kv_head,
                                                  .kv_heads = shape.kv_heads,
                                                  .width = shape.width,
                                                  .first = split.first,
                                                  .last = split.last,
                                                  .scale = scale(),
                                                  .m = to.m,
                                                  .sum = to.sum,
                                                  .values = to.values});
  }

  void merge(const Table& table, const Queries& q, std::size_t split, const Partial& total,
             const Partial& later) const {
    const std::size_t first = q.reach().split(split).first;
    for (std::size_t i = 0; i < q.count; ++i) {
      if (q.limits[i] <= first) continue;
      table.attend_combine(total.m + i, total.sum + i, total.values + i * shape.width, later.m[i], later.sum[i],
                           later.values + i * shape.width, shape.width);
    }
  }

  void finish(const Table& table, const Queries& q, const Partial& total) const {
    for (std::size_t i = 0; i < q.count; ++i) {
      if (is_quantised(q.segment->format)) table.hadamard(total.values + i * shape.width, shape.width);  // back
      const std::size_t row = q.first_row + i / tasks.group, head = q.kv_head * tasks.group + i % tasks.group;
      table.attend_finish(cpu::row(out, row) + head * shape.width, total.values + i * shape.width, total.sum[i],
                          query(row, head) + shape.width, shape.width);
    }
  }
};

// cos and sin, [rows, 2, pairs], the same for every layer of a pass. Angles in double: at position 10^6 a float angle
// would be off by 0.03.
const float* CpuBackend::rope_table(const Rope& rope) {
  const std::span positions = pass_.step().positions;
  const std::size_t pairs = rope.pairs, rows = positions.size();
  float* table = work_.take<float>(WorkPart::kRope, rows * 2 * pairs);
  if (rope_of_ == rope.inv_freq) return table;
  rope_of_ = rope.inv_freq;
  const double* inv_freq = host(rope.inv_freq);
  const auto fill = [&](std::size_t begin, std::size_t end, unsigned) {
    for (std::size_t t = begin; t < end; ++t) {
      float* cosine = table + t * 2 * pairs;
      for (std::uint32_t i = 0; i < rope.pairs; ++i) {
        const double angle = static_cast<double>(positions[t].along(rope.axis(i))) * inv_freq[i];
        cosine[i] = static_cast<float>(std::cos(angle) * static_cast<double>(rope.magnitude));
        cosine[pairs + i] = static_cast<float>(std::sin(angle) * static_cast<double>(rope.magnitude));
      }
    }
  };
  workers_.each(rows, fill, kRowGrain);
  return table;
}

void CpuBackend::do_norm_rope_append(Tensor q_gate, Tensor k, Tensor v, const HeadNorms& norms, float eps,
                                     const Rope& rope, const AttentionShape& shape, std::uint32_t layer) {
  const std::size_t pairs = rope.pairs, width = shape.width, heads = q_gate.rows == 0 ? 0 : shape.heads;
  const std::span segments = pass_.attention(shape, layer);
  const float* angles = rope_table(rope);
  const float* q_norm = host(norms.query);
  const float* k_norm = host(norms.key);
  const auto one = [&](const KvSegment& s, std::size_t row) {
    const float* cosine = angles + row * 2 * pairs;
    const std::size_t position = s.position + row - s.first;
    for (std::size_t h = 0; h < heads; ++h) {
      float* query = cpu::row(q_gate, row) + h * 2 * width;
      table_.norm_rope(query, q_norm, width, eps, cosine, cosine + pairs, pairs);
      if (is_quantised(s.format)) table_.hadamard(query, width);
    }
    for (std::size_t g = 0; g < shape.kv_heads; ++g) {
      float* key = cpu::row(k, row) + g * width;
      float* value = cpu::row(v, row) + g * width;
      table_.norm_rope(key, k_norm, width, eps, cosine, cosine + pairs, pairs);
      if (is_quantised(s.format)) {
        table_.hadamard(key, width);
        table_.hadamard(value, width);
      }
      table_.append[index(s.format)](s.plain[position / kPageTokens], position % kPageTokens, g, shape.kv_heads, width,
                                     key, value);
    }
  };
  const auto rows = [&](std::size_t begin, std::size_t end, unsigned) {
    for (const KvSegment& s : segments) {
      for (std::size_t row = std::max(begin, s.first); row < std::min(end, s.first + s.count); ++row) one(s, row);
    }
  };
  workers_.each(k.rows, rows, kRowGrain);
  for (const KvSegment& s : segments) {
    if (is_quantised(s.format)) quantise_pages(s, QuantisedPage(s.format, shape));
  }
}

// Quantises the pages that rows certain by now have filled since the pass before.
void CpuBackend::quantise_pages(const KvSegment& s, const QuantisedPage& page) {
  const auto [first, last] = filled_pages(s.committed, s.position + s.certain);
  workers_.each_item((last - first) * page.panels(), [&, start = first](std::size_t item, unsigned) {
    const std::size_t number = start + item / page.panels();
    page.pack(s.quantised[number], s.plain[number], item % page.panels());
  });
}

void CpuBackend::do_attend(Tensor out, Tensor q_gate, const AttentionShape& shape, std::uint32_t layer) {
  const AttendPlan plan{out, q_gate, shape, pass_.attention(shape, layer), {shape, pass_.step().segments}};
  if (plan.tasks.spreads_splits(workers_.count(), shape.width)) {
    attend_splits(plan);
  } else {
    attend_rows(plan);
  }
}

void add_rope_work(WorkBytes& work, const AttentionShape& shape, std::size_t rows) noexcept {
  work.raise(WorkPart::kRope, rows * shape.width * sizeof(float));  // where every dimension is rotated
}

void add_attend_work(WorkBytes& work, const AttentionShape& shape, std::span<const StepSegment> segments,
                     unsigned workers) noexcept {
  if (shape.heads == 0) return;
  const AttendTasks tasks(shape, segments);
  const bool spreads = tasks.spreads_splits(workers, shape.width);
  const std::size_t floats = spreads ? tasks.spread_floats(shape.width) : workers * own_floats(shape.width);
  work.raise(WorkPart::kAttendParts, floats * sizeof(float));
  work.raise(WorkPart::kAttendQuantised, workers * quantised_scratch_bytes(shape.width));
}

void add_most_attend_work(WorkBytes& work, const AttentionShape& shape, std::size_t rows, std::size_t context,
                          unsigned workers) noexcept {
  const std::size_t block_rows = std::bit_floor(kQueryBlock / (shape.heads / shape.kv_heads));
  const std::size_t blocks = ceil_div(rows, block_rows) + 1;
  // As AttendTasks decide.
  const std::size_t few = std::min((2 * std::size_t{workers} - 1) / shape.kv_heads, blocks) * shape.kv_heads;
  const std::size_t splits = 2 + ceil_div(context, kKvSplit);
  const std::size_t parts = few * splits * Partial::floats(kQueryBlock, shape.width);
  const std::size_t spread = workers > 1 ? std::min(parts, kPartsFloats) : 0;
  work.raise(WorkPart::kAttendParts, std::max(spread, workers * own_floats(shape.width)) * sizeof(float));
  work.raise(WorkPart::kAttendQuantised, workers * quantised_scratch_bytes(shape.width));
}

// A worker takes a task through all its splits. The longest tasks, at the end of a segment, go first.
void CpuBackend::attend_rows(const AttendPlan& plan) {
  const std::size_t floats = Partial::floats(kQueryBlock, plan.shape.width);
  float* scratch = work_.take<float>(WorkPart::kAttendParts, own_floats(plan.shape.width) * workers_.count());
  const std::size_t packed_bytes = quantised_scratch_bytes(plan.shape.width);
  std::byte* packed = work_.take<std::byte>(WorkPart::kAttendQuantised, packed_bytes * workers_.count());
  const auto run_task = [&](std::size_t item, unsigned worker) {
    const Queries q = plan.queries(plan.tasks.count - 1 - item);
    const Partial total(scratch + 2 * worker * floats, q.count), later(scratch + (2 * worker + 1) * floats, q.count);
    plan.run_split(table_, q, 0, total, packed + worker * packed_bytes);
    for (std::size_t split = 1; split < q.reach().splits(); ++split) {
      plan.run_split(table_, q, split, later, packed + worker * packed_bytes);
      plan.merge(table_, q, split, total, later);
    }
    plan.finish(table_, q, total);
  };
  workers_.each_item(plan.tasks.count, run_task, plan.tasks.most_workers());
}

// Decoding a long context: few tasks of many splits, so the splits are spread too.
void CpuBackend::attend_splits(const AttendPlan& plan) {
  const AttendTasks& tasks = plan.tasks;
  const std::size_t floats = Partial::floats(tasks.block_queries, plan.shape.width), splits = tasks.most_splits;
  float* scratch = work_.take<float>(WorkPart::kAttendParts, tasks.spread_floats(plan.shape.width));
  const std::size_t packed_bytes = quantised_scratch_bytes(plan.shape.width);
  std::byte* packed = work_.take<std::byte>(WorkPart::kAttendQuantised, packed_bytes * workers_.count());
  const auto part = [&](std::size_t task, std::size_t split, const Queries& q) {
    return Partial(scratch + (task * splits + split) * floats, q.count);
  };
  workers_.each_item(tasks.count * splits, [&](std::size_t item, unsigned worker) {
    const std::size_t task = item / splits, split = item % splits;
    const Queries q = plan.queries(task);
    if (split < q.reach().splits())
      plan.run_split(table_, q, split, part(task, split, q), packed + worker * packed_bytes);
  });
  workers_.each_item(tasks.count, [&](std::size_t task, unsigned) {
    const Queries q = plan.queries(task);
    const Partial total = part(task, 0, q);
    for (std::size_t split = 1; split < q.reach().splits(); ++split)
      plan.merge(table_, q, split, total, part(task, split, q));
    plan.finish(table_, q, total);
  });
}

}  // namespace qwen35::cpu
