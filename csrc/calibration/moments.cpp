#include "calibration/moments.h"

#include <algorithm>

#include "base/error.h"
#include "quantise/gram.h"

namespace qwen35 {

Moments::Input& Moments::input_of(std::span<const Weight* const> weights, std::size_t cols, std::size_t experts) {
  Input*& input = by_weight_[weights.front()];
  if (input == nullptr) {
    inputs_.push_back(std::make_unique<Input>(Input{{weights.begin(), weights.end()}, cols, {}}));
    input = inputs_.back().get();
    input->sums.resize(experts);
  }
  return *input;
}

// x in the host's memory, `x.stride` values from row to row; valid until the next call.
std::span<const float> Moments::rows_of(Tensor x) {
  const std::size_t values = (x.rows - 1) * x.stride + x.cols;
  host_.resize(std::max(host_.size(), values));
  device_.download(reinterpret_cast<std::byte*>(host_.data()), x.data.as<const std::byte>(), values * sizeof(float));
  return {host_.data(), values};
}

void Moments::add(MomentSum& sum, const float* x, std::size_t rows, std::size_t cols, std::size_t stride,
                  Workers& workers) {
  sum.rows += static_cast<double>(rows);
  if (kind_ == MomentKind::kDiagonal) {
    sum.values.resize(cols);
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t col = 0; col < cols; ++col) sum.values[col] += x[row * stride + col] * x[row * stride + col];
    }
    return;
  }
  sum.values.resize(cols * cols);
  add_gram(sum.values.data(), cols, x, rows, stride, workers);
}

void Moments::see(Tensor x, std::span<const Weight* const> weights) {
  if (x.rows == 0) return;
  add(input_of(weights, x.cols, 1).sums.front(), rows_of(x).data(), x.rows, x.cols, x.stride, workers_);
}

void Moments::see_routed(Tensor x, const ExpertWeights& experts, const Routes& routes) {
  if (x.rows == 0) return;
  Input& input = input_of({&experts.down, 1}, x.cols, experts.count);
  const float* values = rows_of(x).data();
  std::vector<std::int32_t> chosen(x.rows);
  std::vector<float> weights(x.rows);
  device_.download(reinterpret_cast<std::byte*>(chosen.data()), routes.experts.as<const std::byte>(),
                   chosen.size() * sizeof(std::int32_t));
  device_.download(reinterpret_cast<std::byte*>(weights.data()), routes.weights.as<const std::byte>(),
                   weights.size() * sizeof(float));
  std::vector<std::vector<std::size_t>> rows(experts.count);
  for (std::size_t i = 0; i < chosen.size(); ++i) rows[static_cast<std::size_t>(chosen[i])].push_back(i);
  workers_.each_item(experts.count, [&](std::size_t expert, unsigned) {
    if (rows[expert].empty()) return;
    std::vector<float> own;
    own.reserve(rows[expert].size() * x.cols);
    for (const std::size_t row : rows[expert]) {
      for (std::size_t col = 0; col < x.cols; ++col) own.push_back(weights[row] * values[row * x.stride + col]);
    }
    Workers alone(1);  // the team is taking the other experts
    add(input.sums[expert], own.data(), rows[expert].size(), x.cols, x.cols, alone);
  });
}

}  // namespace qwen35
