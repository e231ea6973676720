#include "quantise/row_tile.h"

#include "tensor/blocks.h"
#include "tensor/lanes.h"

namespace qwen35 {

RowTile::RowTile(const BlockFormat& format, std::size_t cols)
    : difference(cols),
      level(cols),
      scale(cols / format.group),
      inverse(scale.size()),
      offset(scale.size()),
      block_scale(cols / format.block),
      block_offset(block_scale.size()),
      group_scale(scale.size()),
      group_offset(scale.size()),
      format_(&format) {}

void RowTile::load(const float* values, std::size_t rows) {
  for (std::size_t col = 0; col < cols(); ++col) {
    for (std::size_t lane = 0; lane < kRowTile; ++lane) {
      difference[col][lane] = lane < rows ? values[lane * cols() + col] : 0.0f;
    }
  }
}

void RowTile::take_scales(std::size_t block, const std::byte* encoded, std::size_t block_bytes) {
  const std::size_t groups = format_->block / format_->group;
  for (std::size_t lane = 0; lane < kRowTile; ++lane) {
    BlockScales scales;
    format_->read(encoded + lane * block_bytes, scales);
    block_scale[block][lane] = scales.scale;
    block_offset[block][lane] = scales.offset;
    for (std::size_t g = 0; g < groups; ++g) {
      group_scale[block * groups + g][lane] = scales.scales[g];
      group_offset[block * groups + g][lane] = scales.offsets[g];
    }
  }
  for (std::size_t g = 0; g < groups; ++g) derive(block * groups + g);
}

void RowTile::derive(std::size_t group) {
  const std::size_t block = group * format_->group / format_->block;
  for (std::size_t lane = 0; lane < kRowTile; lane += kLanes) {
    const Lanes s = Lanes::load(&block_scale[block][lane]) * Lanes::load(&group_scale[group][lane]);
    s.store(&scale[group][lane]);
    ratio(lanes(1.0f), s).store(&inverse[group][lane]);
    (Lanes::load(&block_offset[block][lane]) * Lanes::load(&group_offset[group][lane])).store(&offset[group][lane]);
  }
}

void RowTile::store(std::size_t rows, std::size_t block_bytes, std::byte* dst) const {
  const std::size_t groups = format_->block / format_->group;
  for (std::size_t lane = 0; lane < rows; ++lane) {
    for (std::size_t block = 0; block < block_scale.size(); ++block, dst += block_bytes) {
      BlockScales scales{block_scale[block][lane], block_offset[block][lane], {}, {}};
      for (std::size_t g = 0; g < groups; ++g) {
        scales.scales[g] = group_scale[block * groups + g][lane];
        scales.offsets[g] = group_offset[block * groups + g][lane];
      }
      float levels[kSuperBlock];
      for (std::size_t i = 0; i < format_->block; ++i) levels[i] = level[block * format_->block + i][lane];
      format_->write(scales, levels, dst);
    }
  }
}

}  // namespace qwen35
