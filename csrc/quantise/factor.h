// What the solver needs of the inputs of a weight matrix: their second moments, damped, and a triangular factor of
// them. Made once and shared by every matrix with the same input.
#pragma once

#include <cstddef>
#include <vector>

#include "base/workers.h"

namespace qwen35 {

// The mean of x x^T over `tokens` rows x of `cols` inputs: h[cols, cols], symmetric.
struct Moments {
  const float* h;
  std::size_t cols;
  double tokens;
};

// A part of the mean diagonal that is added to the diagonal: what few tokens leave unsure counts as noise. 0.2 columns
// a token, from 0.01 to 0.3: on moments of power-law spectra, near the best for unseen tokens at 0.5 to 16 tokens a
// column.
double damping_for(double tokens, std::size_t cols) noexcept;

// With H = R R^T, R upper triangular, the error of a row whose weights are off by d is the sum over columns j of
// (R_jj d_j + sum over i < j of d_i R_ij)^2. Rounding from the first column to the last, each term is made small by
// aiming at w_j + sum over i < j of d_i R_ij / R_jj: this is the error feedback of GPTQ (arXiv:2210.17323), in the form
// of LDLQ (QuIP, arXiv:2307.13304), which needs no inverse of H.
class Factor {
 public:
  // Throws InputError for moments that are not finite, not symmetric, or that no row of inputs can have. A damping
  // below zero stands for damping_for(tokens, cols). Moments so singular that rounding hides their factor are damped
  // more.
  Factor(const Moments& moments, double damping, Workers& workers);

  std::size_t cols() const noexcept { return cols_; }
  // What was added to the diagonal, as a part of its mean.
  double damping() const noexcept { return damping_; }

  // Damped moments [cols, cols] in units of the mean diagonal, which changes no solution and keeps sums in range.
  const float* moments() const noexcept { return moments_.data(); }
  // R_ij / R_jj at [i, j], i < j; on and below the diagonal it holds nothing of use.
  const float* feedback() const noexcept { return feedback_.data(); }
  // R_jj^2: what an error in column j costs when the columns before it have made up for what they can.
  const float* left() const noexcept { return left_.data(); }
  // The diagonal of the moments as given: the importance of columns by themselves.
  const float* diagonal() const noexcept { return diagonal_.data(); }

 private:
  void take(const Moments& moments, Workers& workers);
  void damp(double damping);
  bool decompose(Workers& workers);

  std::size_t cols_;
  double damping_ = 0.0;
  std::vector<float> diagonal_;
  std::vector<float> moments_;
  std::vector<float> feedback_;
  std::vector<float> left_;
};

}  // namespace qwen35
