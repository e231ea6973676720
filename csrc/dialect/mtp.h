// The multi-token-prediction block: whole under llama.cpp's names, or not there.
#pragma once

#include <string>
#include <vector>

#include "dialect/edited_directory.h"

namespace qwen35 {

// Places the block behind the main layers and counts it in the metadata. An incomplete block moves to `broken`, is not
// counted, and the notice says why. `source` has the bytes. Throws what Gguf::read throws.
void settle_mtp(EditedDirectory& file, const Gguf& source, const std::string& architecture,
                std::vector<GgufTensor>& broken, std::vector<std::string>& notices);

}  // namespace qwen35
