// _core.kernels, in two parts.
#pragma once

#include <pybind11/pybind11.h>

namespace qwen35 {

void bind_kernels(pybind11::module_& module);
void bind_matmul_kernels(pybind11::module_& kernels);

}  // namespace qwen35
