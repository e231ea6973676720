// The instruction sets that this build carries. kernel_sets.cpp.in is filled in by CMakeLists.txt from the folders that
// it compiles, so that an instruction set which is not built is absent from the list and named nowhere.
#pragma once

#include <span>
#include <string_view>

#include "devices/cpu/kernels.h"

namespace qwen35::cpu {

struct KernelSet {
  std::string_view isa;                // the folder's name, as isa_name() says it
  void (*add)(Table& table) noexcept;  // replaces the entries that the folder has kernels for
};

// One that builds on another's kernels is never compiled without it.
std::span<const KernelSet> kernel_sets() noexcept;

}  // namespace qwen35::cpu
