// A GGUF as llama.cpp writes the family, whoever wrote it: names, shapes and keys of other writers become ours here and
// nowhere else. Whatever reads a model reads it through this, so that everyone sees the same file.
#pragma once

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "dialect/edited_directory.h"
#include "dialect/kind.h"
#include "gguf/gguf.h"

namespace qwen35 {

class ModelFile {
 public:
  // Any file whose header can be read. Throws what Gguf throws.
  explicit ModelFile(const std::filesystem::path& path, GgufExtent extent = GgufExtent::kWhole);

  const Gguf& file() const noexcept { return file_; }
  // Of the language model alone; as in the file where it is no model of the family.
  const GgufDirectory& directory() const noexcept { return *directory_; }
  std::shared_ptr<const GgufDirectory> shared_directory() const noexcept { return directory_; }  // outlives the file
  // The rest: the image encoder, and an MTP block that is not whole.
  std::span<const GgufTensor> vision() const noexcept { return vision_; }
  std::span<const GgufTensor> broken_mtp() const noexcept { return broken_mtp_; }
  // By our name, or by the file's own. Throws FormatError when there is none.
  const GgufTensor& tensor(std::string_view name) const;

  const char* kind() const noexcept { return kind_.name; }
  bool is_model() const noexcept { return kind_.is_model(); }
  // Why the file cannot be run and what to give instead; empty where nothing in its directory stands against it.
  const std::string& refusal() const noexcept { return refusal_; }
  // What was found odd and is lost.
  std::span<const std::string> notices() const noexcept { return notices_; }

 private:
  void translate();

  Gguf file_;
  std::shared_ptr<EditedDirectory> directory_;
  FileKind kind_;
  std::vector<GgufTensor> vision_;
  std::vector<GgufTensor> broken_mtp_;
  std::vector<std::string> notices_;
  std::string refusal_;
};

}  // namespace qwen35
