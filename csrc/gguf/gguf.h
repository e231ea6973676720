// A GGUF model, v2 or v3, little-endian: metadata and tensor directory, in one file or in the parts of a split one.
// Everything is checked before use: a Gguf that exists has every tensor inside its file. Headers are copied; tensors
// are read from the files, which stay open, so that replacing a file under its path changes nothing.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/input_file.h"
#include "gguf/directory.h"

namespace qwen35 {

// Whether the tensors' bytes follow their directory, or the file is its metadata and directory alone.
enum class GgufExtent : bool { kWhole, kHeader };

struct GgufHeader;

class Gguf : public GgufDirectory {
 public:
  // Throws FormatError when the file is not a whole GGUF (or its header), or a part is missing or of another model;
  // std::filesystem::filesystem_error when the system cannot open it.
  explicit Gguf(const std::filesystem::path& path, GgufExtent extent = GgufExtent::kWhole);

  GgufExtent extent() const noexcept { return extent_; }
  const std::filesystem::path& path() const noexcept { return files_.front()->path(); }
  std::uint32_t version() const noexcept { return version_; }
  std::span<const std::shared_ptr<const InputFile>> files() const noexcept { return files_; }  // one for each part
  std::uint64_t size() const noexcept;                                                         // bytes of all

  const GgufTensor& tensor(std::string_view name) const;  // throws FormatError when it is missing

  // Reads [begin, begin + bytes) of a tensor, which must be inside it. Throws FormatError when the file has changed
  // since it was opened, filesystem_error.
  void read(const GgufTensor& tensor, std::size_t begin, std::byte* to, std::size_t bytes) const;
  // Identifies the model: size, modification time and header of every part, and the beginning of each tensor.
  std::string fingerprint() const;

 private:
  GgufHeader read_part(const std::filesystem::path& path);
  void require_unique_names() const;

  GgufExtent extent_;
  std::uint32_t version_ = 0;
  std::vector<std::shared_ptr<const InputFile>> files_;
  std::vector<std::uint64_t> header_bytes_;  // of each: up to the end of its tensor directory
};

}  // namespace qwen35
