// A model split into files as llama.cpp does: `NAME-00001-of-00003.gguf` holds the metadata, every file some of the
// tensors, and `split.no` (from 0), `split.count` and `split.tensors.count` identify the parts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>

#include "gguf/directory.h"

namespace qwen35 {

constexpr std::uint64_t kMostParts = 1000;

class Split {
 public:
  // Empty for a model in one file. Throws FormatError, naming the file to open, for a part that is not the first, and
  // for a first part whose name does not lead to the others. The directory and the path must outlive this.
  static std::optional<Split> of(const GgufDirectory& first, const std::filesystem::path& path);

  std::uint64_t count() const noexcept { return count_; }
  // The path of a part, counted from 0. Throws FormatError when it is not there.
  std::filesystem::path find(std::uint64_t number) const;
  // Throws FormatError when what was found there is another part, or another model's.
  void check(const GgufDirectory& part, const std::filesystem::path& path, std::uint64_t number) const;
  // Throws FormatError when the parts together have more tensors or fewer than they say.
  void check_tensors(std::size_t found) const;

 private:
  Split(const GgufDirectory& first, const std::filesystem::path& path, std::uint64_t count) noexcept
      : first_(first), path_(path), count_(count) {}
  [[noreturn]] void fail(const std::string& what) const;

  const GgufDirectory& first_;
  const std::filesystem::path& path_;
  std::uint64_t count_;
};

}  // namespace qwen35
