#include "model/activations.h"

#include <algorithm>

#include "base/round_up.h"

namespace qwen35 {
namespace {

// A bump allocator. Without memory it only counts.
class BumpAllocator {
 public:
  explicit BumpAllocator(DevicePtr<std::byte> memory) : memory_(memory) {}

  std::size_t at() const noexcept { return at_; }
  std::size_t furthest() const noexcept { return furthest_; }
  void back_to(std::size_t at) noexcept { at_ = at; }

  Tensor tensor(std::size_t rows, std::size_t cols) {
    const std::size_t stride = round_up(cols, kLine / sizeof(float));
    return {array<float>(rows * stride), rows, cols, stride};
  }
  template <class T>
  DevicePtr<T> array(std::size_t count) {
    const DevicePtr<std::byte> start = memory_ + at_;
    at_ += whole_lines(count * sizeof(T));
    furthest_ = std::max(furthest_, at_);
    return start.as<T>();
  }

 private:
  DevicePtr<std::byte> memory_;
  std::size_t at_ = 0;
  std::size_t furthest_ = 0;
};

std::size_t carve(Activations& s, const ModelShape& c, std::size_t rows, std::size_t logit_rows, bool drafts,
                  DevicePtr<std::byte> memory) {
  BumpAllocator allocator(memory);
  s.x = allocator.tensor(rows, c.hidden);
  s.h = allocator.tensor(rows, c.hidden);
  if (drafts) s.last = allocator.tensor(rows, c.hidden);
  const std::size_t shared = allocator.at();

  s.qkv = allocator.tensor(rows, c.conv_channels());
  s.z = allocator.tensor(rows, c.delta_width());
  s.a = allocator.tensor(rows, c.delta.value_heads);
  s.b = allocator.tensor(rows, c.delta.value_heads);
  s.mix = allocator.tensor(rows, c.delta_width());

  allocator.back_to(shared);
  s.q_gate = allocator.tensor(rows, 2 * c.query_width());
  s.k = allocator.tensor(rows, c.kv_width());
  s.v = allocator.tensor(rows, c.kv_width());
  s.attended = allocator.tensor(rows, c.query_width());

  allocator.back_to(shared);
  s.act = allocator.tensor(rows, c.moe ? c.moe->shared_width : c.feed_forward);
  if (c.moe) {
    s.router = allocator.tensor(rows, c.moe->experts);
    s.expert_act = allocator.tensor(rows * c.moe->top_k, c.moe->width);
    s.routes = {.experts = allocator.array<std::int32_t>(rows * c.moe->top_k),
                .weights = allocator.array<float>(rows * c.moe->top_k),
                .top_k = c.moe->top_k,
                .shared_gate = allocator.tensor(rows, 1)};
  }

  allocator.back_to(shared);
  if (drafts) s.joined = allocator.tensor(rows, 2 * c.hidden);

  allocator.back_to(shared);
  if (!drafts) s.last = allocator.tensor(rows, c.hidden);
  s.logits = allocator.tensor(logit_rows, c.vocabulary);
  return allocator.furthest();
}

}  // namespace

std::size_t activation_bytes(const ModelShape& model, std::size_t rows, std::size_t logit_rows, bool drafts) {
  Activations sizes;
  return carve(sizes, model, rows, logit_rows, drafts, nullptr);
}

Scratch::Scratch(Backend& backend, const Config& config, std::size_t rows, std::size_t logit_rows, bool drafts)
    : rows_(rows), top_k_(config.moe ? config.moe->top_k : 0) {
  memory_ = backend.allocate(carve(whole_, config, rows, logit_rows, drafts, nullptr));
  carve(whole_, config, rows, logit_rows, drafts, memory_->data());
}

Activations Scratch::first_rows(std::size_t n) const noexcept {
  Activations s = whole_;
  for (Tensor* tensor : {&s.x, &s.h, &s.qkv, &s.z, &s.a, &s.b, &s.mix, &s.q_gate, &s.k, &s.v, &s.attended, &s.act,
                         &s.router, &s.routes.shared_gate, &s.joined, &s.last}) {
    tensor->rows = n;
  }
  s.expert_act.rows = n * top_k_;
  return s;
}

}  // namespace qwen35
