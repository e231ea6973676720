#include "quantise/gram.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "quantise/gemm.h"

namespace qwen35 {
namespace {

// Tiles of the upper triangle: wide enough that packing their panels is a small part of the work.
constexpr std::size_t kTile = 256;

struct TileAt {
  std::size_t row;
  std::size_t col;
};

std::vector<TileAt> upper_tiles(std::size_t cols) {
  std::vector<TileAt> tiles;
  for (std::size_t row = 0; row < cols; row += kTile) {
    for (std::size_t col = row; col < cols; col += kTile) tiles.push_back({row, col});
  }
  return tiles;
}

}  // namespace

void add_gram(float* h, std::size_t cols, const float* x, std::size_t rows, std::size_t stride, Workers& workers) {
  const std::vector<TileAt> tiles = upper_tiles(cols);
  std::vector<Gemm> gemms(workers.count());
  workers.each_item(tiles.size(), [&](std::size_t i, unsigned worker) {
    const auto [row, col] = tiles[i];
    const std::size_t m = std::min(kTile, cols - row), n = std::min(kTile, cols - col);
    gemms[worker].add(m, n, rows, {x + row, 1, stride}, {x + col, stride, 1}, h + row * cols + col, cols);
  });
}

void mirror_gram(float* h, std::size_t cols, Workers& workers) {
  const std::vector<TileAt> tiles = upper_tiles(cols);
  workers.each_item(tiles.size(), [&](std::size_t i, unsigned) {
    const auto [row, col] = tiles[i];
    const std::size_t row_end = std::min(cols, row + kTile), col_end = std::min(cols, col + kTile);
    for (std::size_t r = row; r < row_end; ++r) {
      for (std::size_t c = std::max(col, r + 1); c < col_end; ++c) h[c * cols + r] = h[r * cols + c];
    }
  });
}

}  // namespace qwen35
