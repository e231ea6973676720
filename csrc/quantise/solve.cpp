#include "quantise/solve.h"

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/workers.h"
#include "quantise/gemm.h"
#include "quantise/tile_solver.h"
#include "tensor/blocks.h"
#include "tensor/encode.h"

namespace qwen35 {
namespace {

std::size_t row_bytes(DType dtype, std::size_t cols) {
  const DTypeInfo& type = info(dtype);
  return cols / type.block * type.block_bytes;
}

std::size_t tiles_of(std::size_t rows) { return (rows + kRowTile - 1) / kRowTile; }

}  // namespace

void solve(DType dtype, const float* values, std::size_t rows, const Factor& factor, const SolveOptions& options,
           std::byte* dst) {
  const DTypeInfo& type = info(dtype);
  const std::size_t cols = factor.cols(), bytes = row_bytes(dtype, cols);
  const BlockFormat* format = find_block_format(dtype);
  if (format == nullptr) return encode(dtype, values, rows, cols, factor.diagonal(), dst, options.threads);
  if (cols % type.block != 0) {
    throw InputError("solve " + std::string(type.name) + ": rows of " + std::to_string(cols) +
                     " values are not whole blocks of " + std::to_string(type.block));
  }
  check_encodable(dtype, values, rows, cols);
  if (rows == 0) return;
  Workers workers(tiles_of(rows) == 1 ? 1 : options.threads);
  std::vector<std::unique_ptr<TileSolver>> solvers(workers.count());
  workers.each_item(tiles_of(rows), [&](std::size_t tile, unsigned worker) {
    if (!solvers[worker]) solvers[worker] = std::make_unique<TileSolver>(*format, type.block_bytes, factor);
    const std::size_t first = tile * kRowTile, n = std::min(kRowTile, rows - first);
    solvers[worker]->solve(values + first * cols, n, options.sweeps, dst + first * bytes);
  });
}

double weighted_error(DType dtype, const float* values, std::size_t rows, std::size_t cols, const std::byte* encoded,
                      const float* h, unsigned threads) {
  const std::size_t bytes = row_bytes(dtype, cols);
  std::vector<double> errors(tiles_of(rows));
  Workers workers(tiles_of(rows) <= 1 ? 1 : threads);
  std::vector<Gemm> gemms(workers.count());
  workers.each_item(errors.size(), [&](std::size_t tile, unsigned worker) {
    const std::size_t first = tile * kRowTile, n = std::min(kRowTile, rows - first);
    std::vector<float> difference(n * cols), product(n * cols);
    decode(dtype, encoded + first * bytes, difference.data(), n * cols);
    for (std::size_t i = 0; i < n * cols; ++i) difference[i] = values[first * cols + i] - difference[i];
    gemms[worker].add(n, cols, cols, {difference.data(), cols, 1}, {h, cols, 1}, product.data(), cols);
    for (std::size_t i = 0; i < n * cols; ++i) {
      errors[tile] += static_cast<double>(difference[i]) * static_cast<double>(product[i]);
    }
  });
  double total = 0.0;
  for (const double error : errors) total += error;
  return std::max(total, 0.0);
}

}  // namespace qwen35
