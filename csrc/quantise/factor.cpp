#include "quantise/factor.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "base/error.h"
#include "quantise/cholesky.h"
#include "quantise/gram.h"

namespace qwen35 {
namespace {

constexpr std::size_t kTile = 64;
constexpr double kMoreDamping = 4.0;
constexpr double kLeastRetry = 1e-3;
constexpr double kMostDamping = 1.0;
constexpr float kUnequal = 1e-3f;  // of sqrt(h_ii h_jj), between the two triangles and beyond what moments can be

[[noreturn]] void refuse(std::size_t row, std::size_t col, float value, const std::string& reason) {
  throw InputError("moments: element [" + std::to_string(row) + ", " + std::to_string(col) + "] is " +
                   std::to_string(value) + "; " + reason);
}

// Each pair of elements across the diagonal against each other and against the diagonal.
void check_pair(const Moments& m, std::size_t i, std::size_t j) {
  const float upper = m.h[i * m.cols + j], lower = m.h[j * m.cols + i];
  const float size = std::sqrt(m.h[i * m.cols + i]) * std::sqrt(m.h[j * m.cols + j]);
  if (!std::isfinite(upper)) refuse(i, j, upper, "moments must be finite");
  if (!(std::abs(upper - lower) <= kUnequal * size)) {
    refuse(j, i, lower, "the one across the diagonal is " + std::to_string(upper) + ", and moments are symmetric");
  }
  if (!(std::abs(upper) <= size * (1.0f + kUnequal))) {
    refuse(i, j, upper,
           "it exceeds the mean of its two diagonal elements, " + std::to_string(size) +
               ", so that the matrix is not positive");
  }
}

void check(const Moments& m, Workers& workers) {
  for (std::size_t j = 0; j < m.cols; ++j) {
    const float value = m.h[j * m.cols + j];
    if (!std::isfinite(value) || value < 0.0f) {
      refuse(j, j, value, "a mean of squares must be finite and not negative");
    }
  }
  const std::size_t side = (m.cols + kTile - 1) / kTile;
  workers.each_item(side, [&](std::size_t tile, unsigned) {
    for (std::size_t other = tile; other < side; ++other) {
      const std::size_t rows = std::min(m.cols, (tile + 1) * kTile), cols = std::min(m.cols, (other + 1) * kTile);
      for (std::size_t i = tile * kTile; i < rows; ++i) {
        for (std::size_t j = std::max(i + 1, other * kTile); j < cols; ++j) check_pair(m, i, j);
      }
    }
  });
}

}  // namespace

double damping_for(double tokens, std::size_t cols) noexcept {
  return std::clamp(0.2 * static_cast<double>(cols) / tokens, 0.01, 0.3);
}

Factor::Factor(const Moments& moments, double damping, Workers& workers) : cols_(moments.cols) {
  if (cols_ == 0) throw InputError("moments: expected at least one column");
  if (!(moments.tokens > 0.0)) {
    throw InputError("moments: they are the mean over " + std::to_string(moments.tokens) + " tokens; expected some");
  }
  if (!std::isfinite(damping) || damping > kMostDamping) {
    throw InputError("damping is " + std::to_string(damping) + ", expected a part of the mean diagonal, at most 1");
  }
  check(moments, workers);
  take(moments, workers);
  const double wanted = damping < 0.0 ? damping_for(moments.tokens, cols_) : damping;
  for (double more = wanted;; more = std::max(kMoreDamping * more, kLeastRetry)) {
    if (more > kMostDamping) {
      throw InputError(
          "moments: the matrix is not positive, even with its mean diagonal added; were they summed in "
          "enough precision?");
    }
    damp(more);
    if (decompose(workers)) return;
  }
}

void Factor::take(const Moments& moments, Workers& workers) {
  diagonal_.resize(cols_);
  double trace = 0.0;
  for (std::size_t j = 0; j < cols_; ++j) {
    diagonal_[j] = moments.h[j * cols_ + j];
    trace += static_cast<double>(diagonal_[j]);
  }
  // Without any input every column counts alike.
  const bool none = !(trace > 0.0);
  const double unit = none ? 0.0 : static_cast<double>(cols_) / trace;
  moments_.resize(cols_ * cols_);
  workers.each_item(cols_, [&](std::size_t i, unsigned) {
    for (std::size_t j = i; j < cols_; ++j) {
      moments_[i * cols_ + j] = static_cast<float>(static_cast<double>(moments.h[i * cols_ + j]) * unit);
    }
    if (none) moments_[i * cols_ + i] = 1.0f;
  });
  mirror_gram(moments_.data(), cols_, workers);
}

void Factor::damp(double damping) {
  const auto more = static_cast<float>(damping - damping_);
  for (std::size_t j = 0; j < cols_; ++j) moments_[j * cols_ + j] += more;
  damping_ = damping;
}

bool Factor::decompose(Workers& workers) {
  feedback_ = moments_;
  // No pivot is below the smallest eigenvalue, and that is not below the damping; one that is comes from rounding.
  if (!decompose_upper(feedback_.data(), cols_, static_cast<float>(0.25 * damping_), workers)) return false;
  left_.resize(cols_);
  for (std::size_t j = 0; j < cols_; ++j) left_[j] = feedback_[j * cols_ + j];
  workers.each_item(cols_, [&](std::size_t i, unsigned) {
    for (std::size_t j = i + 1; j < cols_; ++j) feedback_[i * cols_ + j] /= left_[j];
  });
  for (float& r : left_) r *= r;
  return true;
}

}  // namespace qwen35
