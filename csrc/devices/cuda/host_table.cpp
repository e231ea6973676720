#include "devices/cuda/host_table.h"

#include <cstring>
#include <utility>

#include "devices/panels.h"
#include "tensor/blocks.h"

namespace qwen35::cuda {

HostTable::HostTable(const MatrixView& source, std::shared_ptr<const Mapping> mapping)
    : encoded_(source), mapping_(std::move(mapping)) {
  check_panels(source, 1);
  if (mapping_ != nullptr) return;
  copy_ = std::make_unique_for_overwrite<std::byte[]>(source.bytes());
  std::memcpy(copy_.get(), source.data, source.bytes());
  encoded_.data = copy_.get();
}

void HostTable::decode_row(std::size_t row, float* to) const {
  decode(encoded_.dtype, encoded_.data + row * encoded_.row_bytes(), to, encoded_.cols);
}

void HostTable::require_intact() const {
  if (mapping_ != nullptr) mapping_->require_intact();
}

}  // namespace qwen35::cuda
