// The parameter of each kernel: one structure, which the host fills in and a launch copies. C++17, since nvcc reads it.
#pragma once

namespace qwen35::cuda {

struct FillArgs {
  float* to;  // [count]
  float value;
  unsigned count;
};

}  // namespace qwen35::cuda
