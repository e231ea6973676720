#include "model/tensor_source.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "base/error.h"

namespace qwen35 {

const std::byte* RepeatedTensors::take(const GgufTensor& tensor) {
  const std::span<const std::byte> pattern = pattern_(tensor.name);
  if (pattern.empty()) throw InputError("the bytes of tensor '" + std::string(tensor.name) + "' are empty");
  if (pattern.size() >= tensor.bytes) return pattern.data();
  std::vector<std::byte>& filled = filled_[pattern.data()];
  if (filled.size() < tensor.bytes) {
    filled = {};  // before the longer one is allocated
    filled.resize(tensor.bytes);
    for (std::size_t at = 0; at < filled.size(); at += pattern.size()) {
      std::memcpy(filled.data() + at, pattern.data(), std::min(pattern.size(), filled.size() - at));
    }
  }
  return filled.data();
}

}  // namespace qwen35
