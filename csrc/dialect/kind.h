// The kind of a GGUF; for anything but a model of the family, why it cannot be run.
#pragma once

#include <string>

#include "gguf/gguf.h"

namespace qwen35 {

struct FileKind {
  const char* name;     // "model" for one of the family; "projector", "adapter", "other family", ...
  std::string refusal;  // what it is and what to give instead; empty for a model

  bool is_model() const noexcept { return refusal.empty(); }
};

FileKind kind_of(const GgufDirectory& file);

// Which tensors are of types that cannot be decoded, and which file to get; empty when there are none.
std::string refuse_types(const GgufDirectory& file);

}  // namespace qwen35
