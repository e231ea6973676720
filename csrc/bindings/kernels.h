// _core.kernels, for tests: operations on any device, the kernels of the CPU by themselves, a device without
// arithmetic, and the parts of the solver.
#pragma once

#include <pybind11/pybind11.h>

namespace qwen35 {

void bind_device(pybind11::module_& kernels);
void bind_cpu_kernels(pybind11::module_& kernels);
void bind_fake(pybind11::module_& kernels);
void bind_gemm(pybind11::module_& kernels);

}  // namespace qwen35
