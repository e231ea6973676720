// What other bindings need of the formats: the open file, and metadata as Python objects.
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <string>

#include "dialect/model_file.h"
#include "tensor/tensor.h"

// The file that a GgufFile or a path stands for; a path is opened, without the interpreter's lock.
std::shared_ptr<const qwen35::ModelFile> to_model_file(const pybind11::object& file, qwen35::GgufExtent extent);

// A dict of bool, int, float, str and lists of one of them. Builds every object anew.
pybind11::dict metadata_to_python(const qwen35::GgufDirectory& directory);

namespace qwen35 {
// A tensor type as GGUF spells it. Throws InputError for another name.
const DTypeInfo& named_type(const std::string& name);
}  // namespace qwen35

// GgufFile, TensorInfo, block_types, decode, encode; and std::filesystem::filesystem_error as OSError. Expects
// translators for the classes of base/error.h to be registered by the module.
void bind_formats(pybind11::module_& module);
