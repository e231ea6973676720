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
  Filled& filled = filled_[pattern.data()];
  if (filled.size < tensor.bytes) {
    filled = Filled{};  // before the longer one is allocated
    filled.bytes = std::make_unique_for_overwrite<std::byte[]>(tensor.bytes);
    filled.size = tensor.bytes;
    for (std::size_t at = 0; at < filled.size; at += pattern.size()) {
      std::memcpy(filled.bytes.get() + at, pattern.data(), std::min(pattern.size(), filled.size - at));
    }
  }
  return filled.bytes.get();
}

}  // namespace qwen35
