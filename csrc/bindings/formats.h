// What other bindings need of the formats: metadata as Python objects.
#pragma once

#include <pybind11/pybind11.h>

#include "gguf/gguf.h"

// A dict of bool, int, float, str and lists of one of them. Builds every object anew.
pybind11::dict metadata_to_python(const qwen35::GgufDirectory& file);

// GgufFile, TensorInfo, block_types, decode, encode; and std::filesystem::filesystem_error as OSError. Expects
// translators for the classes of base/error.h to be registered by the module.
void bind_formats(pybind11::module_& module);
