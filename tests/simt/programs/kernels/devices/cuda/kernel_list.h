// The kernels of driver.cpp's module, in place of the core's.
#pragma once

#define QWEN35_CUDA_KERNELS(NAME) \
  NAME(add, AddArgs, 64)          \
  NAME(use_shared, AddArgs, 64)
