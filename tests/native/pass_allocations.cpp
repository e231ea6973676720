// A pass allocates nothing: what it works in was reserved for its step before it began.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <memory>
#include <new>
#include <vector>

#include "devices/cpu/cpu_backend.h"
#include "model/forward.h"
#include "twins.h"

namespace {

std::atomic<bool> counts{false};
std::atomic<std::size_t> allocations{0};

void* allocate(std::size_t bytes, std::size_t alignment) {
  if (counts) ++allocations;
#if defined(_MSC_VER)
  void* memory = _aligned_malloc(bytes, alignment);
#else
  void* memory = std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
#endif
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}

void release(void* memory) noexcept {
#if defined(_MSC_VER)
  _aligned_free(memory);
#else
  std::free(memory);
#endif
}

}  // namespace

void* operator new(std::size_t bytes) { return allocate(bytes, alignof(std::max_align_t)); }
void* operator new(std::size_t bytes, std::align_val_t alignment) {
  return allocate(bytes, static_cast<std::size_t>(alignment));
}
void operator delete(void* memory) noexcept { release(memory); }
void operator delete(void* memory, std::size_t) noexcept { release(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { release(memory); }
void operator delete(void* memory, std::size_t, std::align_val_t) noexcept { release(memory); }

namespace qwen35::twins {
namespace {

constexpr std::size_t kPages = 9;  // of the longer sequence: its decoded token reads packed pages in several splits

Config shape_of(bool moe) {
  Config config;
  config.layers = config.attention_interval = 2;
  config.mtp_layers = 1;
  config.hidden = config.vocabulary = 64;
  config.eps = 1e-6F;
  config.attention = {.heads = 2, .kv_heads = 1, .width = 32};
  config.delta = {.key_heads = 1, .value_heads = 2, .key_width = 32, .value_width = 32, .conv_width = 4};
  if (moe) {
    config.moe = ExpertShape{.experts = 5, .top_k = 2, .width = 32, .shared_width = 64};
  } else {
    config.feed_forward = 96;
  }
  return config;
}

// A model of zeros.
struct Zeros {
  Zeros(Backend& on, const Config& config) : ops(on), c(config), vector(ops.allocate(4096 * sizeof(float))) {
    w.embedding = w.head = matrix(c.vocabulary, c.hidden);
    w.norm = zeros();
    MtpWeights& block = w.mtp.emplace_back();
    block.embedding_norm = block.hidden_norm = block.norm = zeros();
    block.join = matrix(c.hidden, 2 * c.hidden);
    block.layer.mixer_norm = zeros();
    block.layer.mixer = attention();
    block.embedding = w.embedding;
    for (std::uint32_t i = 0; i < c.layers; ++i) {
      LayerWeights& layer = w.layers.emplace_back();
      layer.mixer_norm = layer.feed_forward_norm = zeros();
      if (c.is_attention(i)) {
        layer.mixer = attention();
      } else {
        layer.mixer = delta_net();
      }
      if (c.moe) {
        layer.feed_forward = mixture(*c.moe);
      } else {
        layer.feed_forward = dense(c.feed_forward);
      }
    }
  }

  const Weight* matrix(std::size_t rows, std::size_t cols, std::size_t groups = 1) {
    const std::vector<std::byte> data(rows * cols / 32 * 34);
    const MatrixView view{data.data(), DType::kQ8_0, rows, cols};
    return w.matrices.emplace_back(ops.pack(view, groups, {})).get();
  }
  DevicePtr<const float> zeros() { return vector->data().as<const float>(); }

  DeltaNetWeights delta_net() {
    return {.qkv = matrix(c.conv_channels(), c.hidden),
            .z = matrix(c.delta_width(), c.hidden),
            .a = matrix(c.delta.value_heads, c.hidden),
            .b = matrix(c.delta.value_heads, c.hidden),
            .conv = zeros(),
            .ssm_a = zeros(),
            .dt_bias = zeros(),
            .norm = zeros(),
            .out = matrix(c.hidden, c.delta_width())};
  }
  AttentionWeights attention() {
    return {.q_gate = matrix(2 * c.query_width(), c.hidden),
            .k = matrix(c.kv_width(), c.hidden),
            .v = matrix(c.kv_width(), c.hidden),
            .q_norm = zeros(),
            .k_norm = zeros(),
            .out = matrix(c.hidden, c.query_width())};
  }
  DenseWeights dense(std::size_t width) {
    return {.gate = matrix(width, c.hidden), .up = matrix(width, c.hidden), .down = matrix(c.hidden, width)};
  }
  MoeWeights mixture(const ExpertShape& moe) {
    const DenseWeights shared = dense(moe.shared_width);
    return {.router = matrix(moe.experts, c.hidden),
            .shared_gate = matrix(1, c.hidden),
            .experts = {.gate = matrix(moe.experts * moe.width, c.hidden, moe.experts),
                        .up = matrix(moe.experts * moe.width, c.hidden, moe.experts),
                        .down = matrix(moe.experts * c.hidden, moe.width, moe.experts),
                        .count = moe.experts,
                        .shared = SharedExpert{shared.gate, shared.up, shared.down}}};
  }

  Backend& ops;
  const Config& c;
  Weights w;
  std::unique_ptr<Buffer> vector;
};

// A prompt of `rows` tokens beside a token that is decoded.
StepArrays step_of(std::uint32_t rows, KvPool& pages, StatePool& states) {
  StepArrays step;
  constexpr std::uint32_t kLast = kPages * kPageTokens - 1;
  for (const auto& [count, position] : {std::pair{rows, 0U}, std::pair{1U, kLast}}) {
    StepSegment s{};
    s.first = static_cast<std::uint32_t>(step.tokens.size());
    s.count = s.certain = count;
    s.position = s.committed = position;
    s.state = states.allocate();
    states.clear(s.state);
    s.format = pages.spec().format;
    for (const PageForm form : {PageForm::kPlain, PageForm::kQuantised}) {
      (form == PageForm::kPlain ? s.plain_pages : s.quantised_pages) =
          static_cast<std::uint32_t>(step.page_table.size());
      const std::vector<std::byte> nothing(pages.page_bytes(form));
      for (std::size_t p = 0; p < s.pages(); ++p) {
        pages.upload(step.page_table.emplace_back(pages.allocate(form)), nothing.data());
      }
    }
    step.segments.push_back(s);
    for (std::uint32_t t = 0; t < count; ++t) {
      const auto at = static_cast<std::int32_t>(position + t);
      step.tokens.push_back(at % 64);
      step.positions.push_back({at, at, at});
    }
    step.outputs.push_back(s.first + count - 1);
  }
  return step;
}

std::size_t allocations_of_a_pass(bool moe, std::uint32_t rows) {
  cpu::CpuBackend ops(cpu::chosen_isa(), 3);
  const Config config = shape_of(moe);
  const Zeros model(ops, config);
  const auto pages = ops.kv_pool({.layers = 1, .shape = config.attention, .format = KvFormat::kQ4});
  const auto states = ops.state_pool({.layers = 1, .shape = config.delta, .hidden = config.hidden});
  const StepArrays step = step_of(rows, *pages, *states);
  const double frequencies[4] = {1.0, 0.1, 0.01, 0.001};
  const auto inv_freq = ops.allocate(sizeof(frequencies));
  ops.upload(inv_freq->data(), reinterpret_cast<const std::byte*>(frequencies), sizeof(frequencies));
  const Rope rope{inv_freq->data().as<const double>(), 4, {2, 1, 1}, 1.0F};
  const Scratch scratch(ops, config, rows + 1, 2, true);
  const Activations s = scratch.first_rows(rows + 1);
  const std::function<void()> pass = [&] {
    forward(ops, model.w, config, rope, s, 2);
    ops.previous_rows(s.h, s.last);
  };
  const std::function<void()> draft_pass = [&] {
    ops.kept_rows(s.h);
    append_pairs(ops, model.w.mtp.front(), config, rope, s);
  };
  Candidate best[3];
  ops.reserve(config, step.view());
  allocations = 0;
  counts = true;
  ops.run(step.view(), pass);
  ops.run(step.view(), draft_pass);
  ops.top_k(best, project(ops, model.w, s, 0, 2).first_rows(1), {});
  counts = false;
  return allocations;
}

}  // namespace

bool passes_allocate_nothing() {
  bool is_true = true;
  for (const bool moe : {false, true}) {
    for (const std::uint32_t rows : {1U, 5U, 60U, 300U}) {
      const std::size_t count = allocations_of_a_pass(moe, rows);
      if (count == 0) continue;
      std::printf("a pass of %u rows%s: %zu allocations\n", rows + 1, moe ? " through experts" : "", count);
      is_true = false;
    }
  }
  return is_true;
}

}  // namespace qwen35::twins
