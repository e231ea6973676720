// Supplies encoded tensor bytes during packing: from the GGUF, or generated for benchmarks.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "base/mapping.h"
#include "gguf/gguf.h"

namespace qwen35 {

class TensorSource {
 public:
  virtual ~TensorSource() = default;
  virtual const std::byte* take(const GgufTensor& tensor) = 0;  // the tensor's encoded bytes
  // What the bytes lie in, which keeps them readable even when they have been given back; null where nothing does.
  virtual std::shared_ptr<const Mapping> mapping(const GgufTensor&) const { return nullptr; }
  // [data, data + bytes) is no longer needed. Ranges may overlap; thread-safe.
  virtual void give_back(const std::byte* data, std::size_t bytes) noexcept = 0;
};

// From a whole file, mapped and zero-copy, or read tensor by tensor where the system cannot map it.
class FileTensors final : public TensorSource {
 public:
  explicit FileTensors(const Gguf& file);
  const std::byte* take(const GgufTensor& tensor) override;  // when read: valid until the next is taken
  std::shared_ptr<const Mapping> mapping(const GgufTensor& tensor) const override;
  void give_back(const std::byte* data, std::size_t bytes) noexcept override;

  bool is_mapped() const noexcept;  // all of it
  // Call after the last take(). Throws FormatError when the file changed while it was being read.
  void require_intact() const;

 private:
  const Gguf& file_;
  std::vector<std::shared_ptr<const Mapping>> parts_;
  std::unique_ptr<std::byte[]> read_;
};

// Every tensor repeats a pattern of bytes. Tensors with the same pattern share one buffer, as long as the longest of
// them, so that a synthetic model of any size needs little more than its packed weights.
class RepeatedTensors final : public TensorSource {
 public:
  // The pattern of the tensor of this name, which outlives the source.
  using Pattern = std::function<std::span<const std::byte>(std::string_view name)>;

  explicit RepeatedTensors(Pattern pattern) : pattern_(std::move(pattern)) {}
  // Throws InputError for a pattern that is empty.
  const std::byte* take(const GgufTensor& tensor) override;
  void give_back(const std::byte*, std::size_t) noexcept override {}

 private:
  struct Filled {
    std::unique_ptr<std::byte[]> bytes;
    std::size_t size = 0;
  };

  Pattern pattern_;
  std::unordered_map<const std::byte*, Filled> filled_;  // by where the pattern lies
};

}  // namespace qwen35
