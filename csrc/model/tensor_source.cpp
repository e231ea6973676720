#include "model/tensor_source.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <string>

#include "base/error.h"

namespace qwen35 {

FileTensors::FileTensors(const Gguf& file) : file_(file) {
  for (const auto& part : file.files()) parts_.push_back(std::make_shared<const Mapping>(part));
}

const std::byte* FileTensors::take(const GgufTensor& tensor) {
  if (const std::byte* mapped = parts_[tensor.part]->data()) return mapped + tensor.offset;
  read_.reset();  // before the next one is allocated
  read_ = std::make_unique_for_overwrite<std::byte[]>(tensor.bytes);
  file_.read(tensor, 0, read_.get(), tensor.bytes);
  return read_.get();
}

std::shared_ptr<const Mapping> FileTensors::mapping(const GgufTensor& tensor) const {
  const auto& part = parts_[tensor.part];
  return part->data() == nullptr ? nullptr : part;
}

void FileTensors::give_back(const std::byte* data, std::size_t bytes) noexcept {
  for (const auto& part : parts_) {
    if (std::less_equal<>{}(part->data(), data) && std::less<>{}(data, part->data() + part->size())) {
      part->release(data, bytes);
    }
  }
}

bool FileTensors::is_mapped() const noexcept {
  return std::all_of(parts_.begin(), parts_.end(), [](const auto& part) { return part->data() != nullptr; });
}

void FileTensors::require_intact() const {
  for (const auto& part : parts_) part->require_intact();
}

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
