// From the last block of columns to the first: the block on the diagonal by itself in double precision, the rows above
// it by its inverse, and their product taken from what is left.
#include "quantise/cholesky.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "quantise/gemm.h"

namespace qwen35 {
namespace {

constexpr std::size_t kSide = 128;
constexpr std::size_t kTile = 256;

// Upper triangular [n, n] within kSide rows.
struct Corner {
  std::vector<double> at = std::vector<double>(kSide * kSide, 0.0);
  double* operator[](std::size_t row) { return at.data() + row * kSide; }
};

bool decompose_corner(Corner& r, std::size_t n, double least_pivot) {
  for (std::size_t k = n; k-- > 0;) {
    double pivot = r[k][k];
    for (std::size_t m = k + 1; m < n; ++m) pivot -= r[k][m] * r[k][m];
    if (!(pivot > least_pivot)) return false;
    r[k][k] = std::sqrt(pivot);
    for (std::size_t i = 0; i < k; ++i) {
      double rest = r[i][k];
      for (std::size_t m = k + 1; m < n; ++m) rest -= r[i][m] * r[k][m];
      r[i][k] = rest / r[k][k];
    }
  }
  return true;
}

// to[n, n] = r^-1, upper triangular, row-major with n columns.
void invert_corner(Corner& r, std::size_t n, float* to) {
  Corner inverse;
  for (std::size_t col = 0; col < n; ++col) {
    inverse[col][col] = 1.0 / r[col][col];
    for (std::size_t row = col; row-- > 0;) {
      double sum = 0.0;
      for (std::size_t m = row + 1; m <= col; ++m) sum += r[row][m] * inverse[m][col];
      inverse[row][col] = -sum / r[row][row];
    }
  }
  for (std::size_t row = 0; row < n; ++row) {
    for (std::size_t col = 0; col < n; ++col) to[row * n + col] = static_cast<float>(inverse[row][col]);
  }
}

class Decomposition {
 public:
  Decomposition(float* h, std::size_t cols, Workers& workers)
      : h_(h), cols_(cols), workers_(workers), gemms_(workers.count()), inverse_(kSide * kSide) {}

  bool run(float least_pivot) {
    for (std::size_t end = cols_; end > 0;) {
      const std::size_t begin = (end - 1) / kSide * kSide;
      if (!corner(begin, end - begin, least_pivot)) return false;
      solve_above(begin, end - begin);
      subtract_products(begin, end - begin);
      end = begin;
    }
    return true;
  }

 private:
  bool corner(std::size_t at, std::size_t n, float least_pivot) {
    Corner r;
    float* from = h_ + at * cols_ + at;
    for (std::size_t row = 0; row < n; ++row) {
      for (std::size_t col = row; col < n; ++col) r[row][col] = static_cast<double>(from[row * cols_ + col]);
    }
    if (!decompose_corner(r, n, static_cast<double>(least_pivot))) return false;
    for (std::size_t row = 0; row < n; ++row) {
      for (std::size_t col = row; col < n; ++col) from[row * cols_ + col] = static_cast<float>(r[row][col]);
    }
    invert_corner(r, n, inverse_.data());
    return true;
  }

  // X R^T = B for the rows above the corner: X = B (R^-1)^T.
  void solve_above(std::size_t at, std::size_t n) {
    workers_.each_item((at + kTile - 1) / kTile, [&](std::size_t i, unsigned worker) {
      const std::size_t first = i * kTile, rows = std::min(kTile, at - first);
      std::vector<float> b(rows * n);
      for (std::size_t row = 0; row < rows; ++row) {
        float* from = h_ + (first + row) * cols_ + at;
        std::copy(from, from + n, b.data() + row * n);
        std::fill(from, from + n, 0.0f);
      }
      gemms_[worker].add(rows, n, n, {b.data(), n, 1}, {inverse_.data(), 1, n}, h_ + first * cols_ + at, cols_);
    });
  }

  // From the upper triangle of the rows and columns before the corner.
  void subtract_products(std::size_t at, std::size_t n) {
    const std::size_t side = (at + kTile - 1) / kTile;
    workers_.each_item(side * side, [&](std::size_t i, unsigned worker) {
      const std::size_t row = i / side * kTile, col = i % side * kTile;
      if (row > col) return;
      const float* x = h_ + at;
      gemms_[worker].subtract(std::min(kTile, at - row), std::min(kTile, at - col), n, {x + row * cols_, cols_, 1},
                              {x + col * cols_, 1, cols_}, h_ + row * cols_ + col, cols_);
    });
  }

  float* h_;
  std::size_t cols_;
  Workers& workers_;
  std::vector<Gemm> gemms_;
  std::vector<float> inverse_;
};

}  // namespace

bool decompose_upper(float* h, std::size_t cols, float least_pivot, Workers& workers) {
  return Decomposition(h, cols, workers).run(least_pivot);
}

}  // namespace qwen35
