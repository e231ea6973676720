#include "devices/self_check_cases.h"

#include <array>
#include <cmath>
#include <cstdint>
#include <memory>
#include <random>

#include "tensor/encode.h"

namespace qwen35 {
namespace {

// Between devices, as tests/kernels/kernel_cases.py states it: sums may be taken in another order, and where numbers
// are rounded to few bits (activations to 8, keys to fp16) one that lies between two may go the other way.
constexpr double kFp32 = 0x1p-14;
constexpr double kRounded = 0x1p-6;

constexpr float kEps = 1e-6F;

// Arrays on one device for the length of one case, each of numbers of its own; the same for every device.
class Arrays {
 public:
  explicit Arrays(Backend& ops) : ops_(ops) {}

  Tensor tensor(std::size_t rows, std::size_t cols) {
    return {upload(numbers(rows * cols)).as<float>(), rows, cols, cols};
  }
  Tensor zeros(std::size_t rows, std::size_t cols) {
    return {upload(std::vector<float>(rows * cols)).as<float>(), rows, cols, cols};
  }
  DevicePtr<float> vector(std::size_t count) { return upload(numbers(count)).as<float>(); }
  DevicePtr<float> negative_vector(std::size_t count) {
    std::vector<float> values = numbers(count);
    for (float& value : values) value = -std::abs(value);
    return upload(values).as<float>();
  }

  template <class T>
  DevicePtr<std::byte> upload(const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    buffers_.push_back(ops_.allocate(bytes.size()));
    ops_.upload(buffers_.back()->data(), bytes.data(), bytes.size());
    return buffers_.back()->data();
  }

  const Weight& weight(DType dtype, std::size_t rows, std::size_t cols, std::size_t groups = 1) {
    const std::vector<float> values = numbers(rows * cols);
    MatrixView view{nullptr, dtype, rows, cols};
    std::vector<std::byte> encoded(view.bytes());
    encode(dtype, values.data(), rows, cols, nullptr, encoded.data(), 1);
    view.data = encoded.data();
    weights_.push_back(ops_.pack(view, groups, {}));
    return *weights_.back();
  }

  void add_to(CheckResults& results, Tensor tensor) const {
    const std::size_t at = results.values.size();
    results.values.resize(at + tensor.rows * tensor.cols);
    const auto bytes = std::as_writable_bytes(std::span(results.values).subspan(at));
    ops_.download(bytes.data(), tensor.data.as<const std::byte>(), bytes.size());
  }
  CheckResults results(Tensor tensor) const {
    CheckResults found{{}, tensor.cols};
    add_to(found, tensor);
    return found;
  }

 private:
  // Even over [-1, 1).
  std::vector<float> numbers(std::size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = static_cast<float>(random_() >> 8) * 0x1p-23F - 1.0F;
    return values;
  }

  Backend& ops_;
  std::mt19937 random_;  // whose numbers the standard fixes
  std::vector<std::unique_ptr<Buffer>> buffers_;
  std::vector<std::unique_ptr<Weight>> weights_;
};

// A step of one sequence's next rows.
StepArrays next_rows(std::uint32_t position, std::uint32_t count, SlotId state, PageId page, KvFormat format) {
  StepArrays step;
  step.tokens.resize(count);
  for (std::uint32_t row = 0; row < count; ++row) {
    const auto at = static_cast<std::int32_t>(position + row);
    step.positions.push_back({at, at, at});
  }
  step.page_table = {page};
  step.segments.push_back({.first = 0,
                           .count = count,
                           .position = position,
                           .committed = position,
                           .certain = count,
                           .state = state,
                           .format = format,
                           .plain_pages = 0,
                           .quantised_pages = 0});
  return step;
}

template <DType kType, std::size_t kRows>
CheckResults matmul(Backend& ops) {
  Arrays arrays(ops);
  const Weight& w = arrays.weight(kType, 96, 256);
  const Tensor x = arrays.tensor(kRows, 256), out = arrays.zeros(kRows, 96);
  ops.matmul(x, {{out, &w}});
  return arrays.results(out);
}

CheckResults rms_norm(Backend& ops) {
  Arrays arrays(ops);
  const Tensor x = arrays.tensor(3, 256), out = arrays.zeros(3, 256);
  ops.rms_norm(out, x, arrays.vector(256), kEps);
  return arrays.results(out);
}

// Some tokens at once, and one more.
CheckResults gated_delta_net(Backend& ops) {
  ModelShape model;
  model.delta = {.key_heads = 1, .value_heads = 2, .key_width = 128, .value_width = 128, .conv_width = 4};
  const DeltaShape& shape = model.delta;
  Arrays arrays(ops);
  const DeltaParameters parameters{arrays.vector(shape.channels() * shape.conv_width),
                                   arrays.negative_vector(shape.value_heads), arrays.vector(shape.value_heads),
                                   arrays.vector(shape.value_width)};
  const auto pool = ops.state_pool({.layers = 1, .shape = shape});
  const SlotId slot = pool->allocate();
  pool->clear(slot);
  CheckResults found{{}, shape.values()};
  std::uint32_t position = 0;
  for (const std::uint32_t count : {5U, 1U}) {
    const Tensor qkv = arrays.tensor(count, shape.channels()), z = arrays.tensor(count, shape.values());
    const Tensor a = arrays.tensor(count, shape.value_heads), b = arrays.tensor(count, shape.value_heads);
    const Tensor out = arrays.zeros(count, shape.values());
    const StepArrays step = next_rows(position, count, slot, kNoPage, KvFormat::kF32);
    ops.reserve(model, step.view());
    ops.run(step.view(), [&] { ops.gated_delta_net(out, qkv, z, a, b, parameters, shape, kEps, 0); });
    arrays.add_to(found, out);
    position += count;
  }
  pool->free(slot);
  return found;
}

// Keys and values of some tokens and of one more, and what their queries make of them.
CheckResults attend(Backend& ops) {
  ModelShape model;
  model.attention = {.heads = 2, .kv_heads = 1, .width = 256};
  const AttentionShape& shape = model.attention;
  constexpr std::uint32_t kPairs = 32;
  Arrays arrays(ops);
  std::vector<double> inv_freq;
  for (std::uint32_t pair = 0; pair < kPairs; ++pair)
    inv_freq.push_back(std::pow(1e4, -static_cast<double>(pair) / kPairs));
  const Rope rope{arrays.upload(inv_freq).as<const double>(), kPairs, {11, 11, 10}, 1.0F};
  const HeadNorms norms{arrays.vector(shape.width), arrays.vector(shape.width)};
  const auto pool = ops.kv_pool({.layers = 1, .shape = shape, .format = KvFormat::kF16});
  const PageId page = pool->allocate(PageForm::kPlain);
  CheckResults found{{}, std::size_t{shape.heads} * shape.width};
  std::uint32_t position = 0;
  for (const std::uint32_t count : {19U, 1U}) {
    const Tensor q_gate = arrays.tensor(count, 2 * found.cols), out = arrays.zeros(count, found.cols);
    const Tensor k = arrays.tensor(count, shape.width), v = arrays.tensor(count, shape.width);
    const StepArrays step = next_rows(position, count, kNoSlot, page, KvFormat::kF16);
    ops.reserve(model, step.view());
    ops.run(step.view(), [&] {
      ops.norm_rope_append(q_gate, k, v, norms, kEps, rope, shape, 0);
      ops.attend(out, q_gate, shape, 0);
    });
    arrays.add_to(found, out);
    position += count;
  }
  pool->free(page);
  return found;
}

// The weights of the chosen experts, and the shared one's gate.
template <std::size_t kRows>
CheckResults route(Backend& ops) {
  constexpr std::uint32_t kExperts = 8, kTopK = 2;
  constexpr std::size_t kHidden = 128;
  Arrays arrays(ops);
  const Weight &router = arrays.weight(DType::kF32, kExperts, kHidden), &gate = arrays.weight(DType::kF32, 1, kHidden);
  const Tensor h = arrays.tensor(kRows, kHidden), logits = arrays.zeros(kRows, kExperts);
  const Tensor weights = arrays.zeros(kRows, kTopK), gates = arrays.zeros(kRows, 1);
  const DevicePtr<std::int32_t> chosen = arrays.upload(std::vector<std::int32_t>(kRows * kTopK)).as<std::int32_t>();
  ops.route({chosen, weights.data, kTopK, gates}, logits, h, {&router, &gate});
  CheckResults found{{}, kRows * (kTopK + 1)};
  arrays.add_to(found, weights);
  arrays.add_to(found, gates);
  return found;
}

template <std::size_t kRows>
CheckResults experts(Backend& ops) {
  constexpr std::uint32_t kExperts = 4, kTopK = 2;
  constexpr std::size_t kWidth = 64, kHidden = 128;
  Arrays arrays(ops);
  const auto matrix = [&](std::size_t rows, std::size_t cols, std::size_t groups) {
    return &arrays.weight(DType::kQ4_0, groups * rows, cols, groups);
  };
  ExpertWeights weights{matrix(kWidth, kHidden, kExperts), matrix(kWidth, kHidden, kExperts),
                        matrix(kHidden, kWidth, kExperts), kExperts, std::nullopt};
  weights.shared = SharedExpert{matrix(kWidth, kHidden, 1), matrix(kWidth, kHidden, 1), matrix(kHidden, kWidth, 1)};
  std::vector<std::int32_t> chosen;
  for (std::int32_t row = 0; row < static_cast<std::int32_t>(kRows); ++row) {
    chosen.push_back(row % 4);
    chosen.push_back((row + 1 + row % 3) % 4);
  }
  const Routes routes{arrays.upload(chosen).as<std::int32_t>(), arrays.vector(kRows * kTopK), kTopK,
                      arrays.tensor(kRows, 1)};
  const Tensor h = arrays.tensor(kRows, kHidden), x = arrays.tensor(kRows, kHidden);
  const ExpertActs acts{arrays.zeros(kRows * kTopK, kWidth), arrays.zeros(kRows, kWidth)};
  ops.moe_gather(acts, h, weights, routes);
  ops.moe_combine(x, acts, weights, routes);
  return arrays.results(x);
}

}  // namespace

std::span<const CheckCase> check_cases() noexcept {
  static constexpr std::array kCases{
      CheckCase{"matmul Q4_0, 1 row", kRounded, matmul<DType::kQ4_0, 1>},
      CheckCase{"matmul Q4_0, 40 rows", kRounded, matmul<DType::kQ4_0, 40>},
      CheckCase{"matmul Q8_0, 1 row", kRounded, matmul<DType::kQ8_0, 1>},
      CheckCase{"matmul Q8_0, 40 rows", kRounded, matmul<DType::kQ8_0, 40>},
      CheckCase{"rms_norm", kFp32, rms_norm},
      CheckCase{"gated_delta_net", kFp32, gated_delta_net},
      CheckCase{"attend, keys in fp16", kRounded, attend},
      CheckCase{"route, 1 row", kFp32, route<1>},
      CheckCase{"route, 40 rows", kFp32, route<40>},
      CheckCase{"experts Q4_0, 3 rows", kRounded, experts<3>},
      CheckCase{"experts Q4_0, 40 rows", kRounded, experts<40>},
  };
  return kCases;
}

}  // namespace qwen35
