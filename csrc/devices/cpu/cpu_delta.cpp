// gated_delta_net: every key head, with the value heads that read it, is one piece of work from convolution to gated
// norm. It goes through its tokens in blocks small enough that what passes from step to step stays in the second-level
// cache; a row of the batch is many pages away from the next, a block's rows lie side by side.
#include <algorithm>
#include <cmath>

#include "devices/cpu/cpu_backend.h"
#include "devices/cpu/host.h"
#include "devices/cpu/step_work.h"

namespace qwen35::cpu {
namespace {

constexpr float kUnitEpsilon = 1e-6F;        // added to the sum of squares, docs/architecture.md 2.3
constexpr std::size_t kDeltaBlock = 64;      // rows that go from step to step together
constexpr std::size_t kWorkGrain = 1 << 16;  // multiplications worth waking one more worker for: some ten microseconds

static_assert(kDeltaBlock % kDeltaSteps == 0);

// Work memory of one worker. Row 0 is the first token of the chunk that S stands before.
struct Block {
  float* query;       // [kDeltaBlock, Dk]
  float* key;         // [kDeltaBlock, Dk]
  float* value;       // [kDeltaBlock, Dv], of one value head at a time; overwritten by its outputs
  float* key_dots;    // [kDeltaBlock, kDeltaSteps], k of the row with the chunk's keys before it
  float* query_dots;  // [kDeltaBlock, kDeltaSteps], q of the row with the chunk's keys up to its own
  float* decay;       // [kDeltaBlock]
  float* beta;        // [kDeltaBlock]
  DeltaStep* steps;   // [kDeltaBlock]
  float* tile;        // [Dk, kValueTile], S behind uncertain chunks; only where rows are uncertain

  static std::size_t floats(const DeltaShape& shape) noexcept {
    const std::size_t row = 2 * shape.key_width + shape.value_width + 2 * kDeltaSteps + 2 + sizeof(DeltaStep) / 4;
    return (kDeltaBlock * row + shape.key_width * kValueTile + 15) / 16 * 16;
  }
  Block(float* at, const DeltaShape& shape) noexcept
      : query(at),
        key(query + kDeltaBlock * shape.key_width),
        value(key + kDeltaBlock * shape.key_width),
        key_dots(value + kDeltaBlock * shape.value_width),
        query_dots(key_dots + kDeltaBlock * kDeltaSteps),
        decay(query_dots + kDeltaBlock * kDeltaSteps),
        beta(decay + kDeltaBlock),
        steps(reinterpret_cast<DeltaStep*>(beta + kDeltaBlock)),
        tile(reinterpret_cast<float*>(steps + kDeltaBlock)) {}
};

// The operation's arguments and one worker's block.
struct Layer {
  const Table& table;
  Tensor out, qkv, z, a, b;
  const DeltaParameters& parameters;
  const DeltaShape& shape;
  float eps;
  Block block;

  // Rows [first, end) of the block are rows [row, row + end - first) of the batch. Those below `first` are pending in
  // the segment's state; the last `accepted` of them were uncertain until now.
  struct Rows {
    const DeltaSegment& segment;
    std::size_t row, accepted, first, certain, end;
    std::size_t count() const noexcept { return end - first; }
    std::size_t committed() const noexcept { return certain / kDeltaSteps * kDeltaSteps; }  // into S, by this block
    std::size_t pending() const noexcept { return end - committed(); }                      // behind it
  };

  // The next rows of a segment of which `done` are done and whose state is committed to `committed`. All uncertain rows
  // share the last block, since the tile behind uncertain chunks is not kept from block to block.
  static Rows next(const DeltaSegment& segment, std::size_t done, std::size_t committed) noexcept {
    const std::size_t position = segment.position + done, left = segment.count - done;
    const std::size_t first = position - committed / kDeltaSteps * kDeltaSteps;
    const std::size_t certain = segment.certain - std::min(segment.certain, done);
    const std::size_t count = left <= kDeltaBlock - first ? left : std::min(kDeltaBlock - first, certain);
    return {segment,      segment.first + done, position - committed, first, first + std::min(certain, count),
            first + count};
  }

  void run(const DeltaSegment& segment, std::size_t key_head) const noexcept {
    std::size_t committed = segment.committed;
    for (std::size_t done = 0; done < segment.count;) {
      const Rows rows = next(segment, done, committed);
      read_keys(rows, key_head);
      for (std::size_t head = key_head; head < shape.value_heads; head += shape.key_heads) {
        convolve(rows, 2 * shape.key_heads * shape.key_width + head * shape.value_width, shape.value_width,
                 block.value);
        make_steps(rows, head);
        update_state(rows, head);
      }
      done += rows.count();
      committed = segment.position + std::min(segment.certain, done);
    }
  }

  // `count` channels from `channel` into rows of the block that are as wide.
  void convolve(const Rows& rows, std::size_t channel, std::size_t count, float* to) const noexcept {
    table.conv_silu({.x = cpu::row(qkv, rows.row) + channel,
                     .out = to + rows.first * count,
                     .rows = rows.count(),
                     .stride = qkv.stride,
                     .out_stride = count,
                     .window = rows.segment.window + channel,
                     .kernel = host(parameters.conv) + channel * kConvTaps,
                     .channels = qkv.cols,
                     .count = count,
                     .accepted = rows.accepted,
                     .certain = rows.certain - rows.first});
  }

  void read_keys(const Rows& rows, std::size_t head) const noexcept {
    const std::size_t width = shape.key_width;
    float* pending = rows.segment.keys + head * rows.segment.pending * width;
    convolve(rows, head * width, width, block.query);
    convolve(rows, (shape.key_heads + head) * width, width, block.key);
    std::copy_n(pending, rows.first * width, block.key);

    const float query_scale = 1.0F / std::sqrt(static_cast<float>(width));
    for (std::size_t t = rows.first; t < rows.end; ++t) {
      float* query = block.query + t * width;
      float* key = block.key + t * width;
      const std::size_t i = t % kDeltaSteps;
      const float* chunk = key - i * width;
      table.l2_norm(query, query, width, query_scale, kUnitEpsilon);
      table.l2_norm(key, key, width, 1.0F, kUnitEpsilon);
      table.delta_dots(block.key_dots + t * kDeltaSteps, key, chunk, i, width);
      table.delta_dots(block.query_dots + t * kDeltaSteps, query, chunk, i + 1, width);
    }
    std::copy_n(block.key + rows.committed() * width, rows.pending() * width, pending);
  }

  void make_steps(const Rows& rows, std::size_t head) const noexcept {
    float* pending = rows.segment.decays + head * rows.segment.pending;
    for (std::size_t t = 0; t < rows.count(); ++t) {
      block.decay[rows.first + t] = cpu::row(a, rows.row + t)[head];
      block.beta[rows.first + t] = cpu::row(b, rows.row + t)[head];
    }
    table.delta_gates(block.decay + rows.first, block.beta + rows.first, host(parameters.ssm_a)[head],
                      host(parameters.dt_bias)[head], rows.count());
    std::copy_n(pending, rows.first, block.decay);

    for (std::size_t t = 0; t < rows.end; ++t) {
      const std::size_t i = t % kDeltaSteps;
      const float decay = block.decay[t];
      const DeltaStep* before = i == 0 ? nullptr : &block.steps[t - 1];
      DeltaStep& step = block.steps[t];
      step.decay = before == nullptr ? decay : before->decay * decay;
      for (std::size_t j = 0; j < i; ++j) step.kept[j] = before->kept[j] * decay;
      step.kept[i] = 1.0F;
      if (t < rows.first) continue;  // only what the next token starts from
      step.beta = block.beta[t];
      for (std::size_t j = 0; j < i; ++j) step.key[j] = step.kept[j] * block.key_dots[t * kDeltaSteps + j];
      for (std::size_t j = 0; j <= i; ++j) step.query[j] = step.kept[j] * block.query_dots[t * kDeltaSteps + j];
    }
    std::copy_n(block.decay + rows.committed(), rows.pending(), pending);
  }

  void update_state(const Rows& rows, std::size_t head) const noexcept {
    const std::size_t width = shape.value_width, tiles = width / kValueTile;
    for (std::size_t tile = 0; tile < tiles; ++tile) {
      const std::size_t item = head * tiles + tile;
      table.gated_delta_rule({.state = rows.segment.state + item * shape.key_width * kValueTile,
                              .scratch = block.tile,
                              .deltas = rows.segment.deltas + item * rows.segment.pending * kValueTile,
                              .query = block.query,
                              .key = block.key,
                              .step = block.steps,
                              .value = block.value + tile * kValueTile,
                              .out = block.value + tile * kValueTile,
                              .first = rows.first,
                              .certain = rows.certain,
                              .rows = rows.end,
                              .width = shape.key_width,
                              .value_stride = width});
    }
    table.gated_rms_norm({.out = cpu::row(out, rows.row) + head * width,
                          .x = block.value + rows.first * width,
                          .z = cpu::row(z, rows.row) + head * width,
                          .weight = host(parameters.norm),
                          .rows = rows.count(),
                          .width = width,
                          .stride = out.stride,
                          .gate_stride = z.stride,
                          .eps = eps});
  }
};

}  // namespace

void add_delta_work(WorkBytes& work, const DeltaShape& shape, unsigned workers) noexcept {
  work.raise(WorkPart::kDelta, workers * Block::floats(shape) * sizeof(float));
}

void CpuBackend::do_gated_delta_net(Tensor out, Tensor qkv, Tensor z, Tensor a, Tensor b,
                                    const DeltaParameters& parameters, const DeltaShape& shape, float eps,
                                    std::uint32_t layer) {
  const std::span segments = pass_.delta_net(shape, layer);
  const std::size_t floats = Block::floats(shape);
  float* scratch = work_.take<float>(WorkPart::kDelta, workers_.count() * floats);

  // Segment after segment within a head: equal shares for the workers, however long the segments are.
  const auto heads = [&](std::size_t begin, std::size_t end, unsigned worker) {
    const Layer one{table_, out, qkv, z, a, b, parameters, shape, eps, Block(scratch + worker * floats, shape)};
    for (std::size_t i = begin; i < end; ++i) one.run(segments[i % segments.size()], i / segments.size());
  };
  const std::size_t pieces = shape.key_heads * segments.size();
  const std::size_t work = std::size_t{shape.value_heads} * shape.value_width * shape.key_width / 2 * qkv.rows;
  workers_.each(pieces, heads, std::max<std::size_t>(1, kWorkGrain * pieces / std::max<std::size_t>(1, work)));
}

}  // namespace qwen35::cpu
