// Rows of the embedding beyond the vocabulary, which converters list as tokens.
#pragma once

#include "dialect/edited_directory.h"

namespace qwen35 {

// Ollama's converter lists them at the end as "[PAD0]" and so on, of the kind that users define; llama.cpp's says that
// they are unused.
void mark_padding(EditedDirectory& file);

}  // namespace qwen35
