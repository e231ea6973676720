#include "gguf/gguf.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "base/error.h"
#include "gguf/parser.h"
#include "gguf/split.h"

namespace qwen35 {

Gguf::Gguf(const std::filesystem::path& path, GgufExtent extent) : extent_(extent) {
  GgufHeader header = read_part(path);
  version_ = header.version;
  GgufDirectory::operator=(std::move(header));
  const auto split = Split::of(*this, path);
  if (split) {
    for (std::uint64_t number = 1; number < split->count(); ++number) {
      const std::filesystem::path sibling = split->find(number);
      header = read_part(sibling);
      split->check(header, sibling, number);
      append(header, static_cast<std::size_t>(number));
    }
  }
  index_tensors();
  require_unique_names();
  if (split) split->check_tensors(tensors_.size());
}

GgufHeader Gguf::read_part(const std::filesystem::path& path) {
  files_.push_back(std::make_shared<const InputFile>(path));
  GgufHeader header = read_header(*files_.back(), extent_);
  header_bytes_.push_back(header.bytes);
  return header;
}

void Gguf::require_unique_names() const {
  for (std::size_t i = 1; i < tensors_by_name_.size(); ++i) {
    const GgufTensor &a = tensors_[tensors_by_name_[i - 1]], &b = tensors_[tensors_by_name_[i]];
    if (a.name != b.name) continue;
    throw FormatError(files_[std::max(a.part, b.part)]->path().string() + ": tensor " + in_quotes(a.name) +
                      " occurs twice" + (a.part == b.part ? "" : ", the other time in another part of the model"));
  }
}

std::uint64_t Gguf::size() const noexcept {
  std::uint64_t bytes = 0;
  for (const auto& file : files_) bytes += file->size();
  return bytes;
}

const GgufTensor& Gguf::tensor(std::string_view name) const {
  const GgufTensor* found = find(name);
  if (found == nullptr) throw FormatError(path().string() + ": no tensor named '" + std::string(name) + "'");
  return *found;
}

void Gguf::read(const GgufTensor& tensor, std::size_t begin, std::byte* to, std::size_t bytes) const {
  const InputFile& file = *files_[tensor.part];
  file.read(tensor.offset + begin, to, bytes);
  file.require_unchanged();
}

std::string Gguf::fingerprint() const {
  constexpr std::size_t kBeginning = 1024;
  std::string text;
  const auto append = [&](std::size_t bytes, const auto& read) {
    text.resize(text.size() + bytes);
    read(reinterpret_cast<std::byte*>(text.data() + text.size() - bytes));
  };
  for (std::size_t i = 0; i < files_.size(); ++i) {
    text += std::to_string(files_[i]->size()) + " " + std::to_string(files_[i]->modified()) + "\n";
    const auto bytes = static_cast<std::size_t>(header_bytes_[i]);
    append(bytes, [&](std::byte* to) { files_[i]->read(0, to, bytes); });
  }
  for (const GgufTensor& tensor : tensors_) {
    const std::size_t bytes = std::min(kBeginning, tensor.bytes);
    append(bytes, [&](std::byte* to) { files_[tensor.part]->read(tensor.offset, to, bytes); });
  }
  for (const auto& file : files_) file->require_unchanged();
  return text;
}

}  // namespace qwen35
