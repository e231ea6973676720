// _core.kernels, for tests: operations on any device, the kernels of the CPU by themselves, and a device without
// arithmetic.
#pragma once

#include <pybind11/pybind11.h>

namespace qwen35 {

void bind_device(pybind11::module_& kernels);
void bind_cpu_kernels(pybind11::module_& kernels);
void bind_fake(pybind11::module_& kernels);

}  // namespace qwen35
