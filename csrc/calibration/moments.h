// Second moments of what goes through a model's matrices: sum of x x^T over the rows x of each distinct input, once for
// all matrices that share it, and apart for each expert's down projection. Those rows count by the square of the weight
// that the router gave them, as their errors do.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "backend/backend.h"
#include "base/workers.h"

namespace qwen35 {

// What is kept of an input: the whole matrix, or its diagonal.
enum class MomentKind : bool { kDiagonal, kFull };

// Of one input, or of one expert's.
struct MomentSum {
  std::vector<float> values;  // [cols, cols] or [cols]; empty while nothing was seen
  double rows = 0;            // that were added
};

class Moments final : public ProductObserver {
 public:
  struct Input {
    std::vector<const Weight*> weights;
    std::size_t cols;
    std::vector<MomentSum> sums;  // one, or one per expert
  };

  Moments(Backend& device, MomentKind kind, unsigned threads) : device_(device), kind_(kind), workers_(threads) {}

  void see(Tensor x, std::span<const Weight* const> weights) override;
  void see_routed(Tensor x, const ExpertWeights& experts, const Routes& routes) override;

  Workers& workers() noexcept { return workers_; }
  // In the order in which they were first seen.
  const std::vector<std::unique_ptr<Input>>& inputs() const noexcept { return inputs_; }

 private:
  Input& input_of(std::span<const Weight* const> weights, std::size_t cols, std::size_t experts);
  std::span<const float> rows_of(Tensor x);
  void add(MomentSum& sum, const float* x, std::size_t rows, std::size_t cols, std::size_t stride, Workers& workers);

  Backend& device_;
  const MomentKind kind_;
  Workers workers_;
  std::vector<std::unique_ptr<Input>> inputs_;
  std::unordered_map<const Weight*, Input*> by_weight_;
  std::vector<float> host_;
};

}  // namespace qwen35
