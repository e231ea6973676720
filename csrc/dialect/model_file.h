// A GGUF as llama.cpp writes the family, whatever program wrote it: names, shapes and keys of other writers are
// translated here and nowhere else. Every reader of a model uses this class and sees the same file.
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
  // Why the file cannot be run and what to give instead; empty if it can, as far as its directory tells.
  const std::string& refusal() const noexcept { return refusal_; }
  // Problems that do not stop the model from running, one sentence each.
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
