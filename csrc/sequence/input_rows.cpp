#include "sequence/input_rows.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

#include "base/error.h"

namespace qwen35 {

InputBlock::InputBlock(std::vector<float> rows, std::vector<Position> positions, const Digest& digest)
    : rows_(std::move(rows)), positions_(std::move(positions)), digest_(digest) {
  if (positions_.empty() || rows_.empty() || rows_.size() % positions_.size() != 0) {
    throw InputError("input rows hold " + std::to_string(rows_.size()) + " values and " +
                     std::to_string(positions_.size()) + " positions, expected as many positions as rows, at least 1");
  }
  if (!std::ranges::all_of(rows_, [](float value) { return std::isfinite(value); })) {
    throw InputError("input rows hold a value that is not finite");
  }
  for (const Position& position : positions_) {
    for (const std::int32_t part : {position.t, position.h, position.w}) {
      if (part < 0 || static_cast<std::size_t>(part) >= positions_.size()) {
        throw InputError("a position of input rows is " + std::to_string(part) + ", expected 0 to " +
                         std::to_string(positions_.size() - 1) + ": counted from the first row, within their number");
      }
      advance_ = std::max(advance_, static_cast<std::uint32_t>(part) + 1);
    }
  }
}

}  // namespace qwen35
