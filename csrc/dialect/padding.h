// Rows of the embedding beyond the vocabulary, which converters list as tokens.
#pragma once

#include "dialect/edited_directory.h"

namespace qwen35 {

// Ollama's converter lists them at the end as user-defined tokens "[PAD0]", "[PAD1]", ...; llama.cpp's marks them
// unused, and so does this.
void mark_padding(EditedDirectory& file);

}  // namespace qwen35
