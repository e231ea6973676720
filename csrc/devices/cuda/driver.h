// The CUDA driver, opened at run time: libcuda.so.1 or nvcuda.dll. Nothing else of CUDA is needed where this runs.
#pragma once

#include <string>

#include "devices/cuda/driver_api.h"

namespace qwen35::cuda {

// Every function of QWEN35_CUDA_DRIVER.
struct DriverFunctions {
#define QWEN35_FUNCTION(function, symbol, parameters) CUresult(*function) parameters = nullptr;
  QWEN35_CUDA_DRIVER(QWEN35_FUNCTION)
#undef QWEN35_FUNCTION
};

struct OpenedDriver {
  DriverFunctions functions;
  int version = 0;      // of CUDA that the driver knows, 1000 major + 10 minor; 0 without a driver
  unsigned cards = 0;   // that the driver shows
  std::string absence;  // why it cannot be used; empty where it can
};

// Opened once. A driver that is missing, too old or has no card is an absence, not an exception.
const OpenedDriver& opened_driver();

// "13.0", of 1000 major + 10 minor.
std::string version_text(int version);

// "CUDA_ERROR_OUT_OF_MEMORY (out of memory)".
std::string describe(CUresult result);

// Calls a function of the driver. Throws OutOfMemory, or DeviceError with the function's name and `what` was asked for.
#define QWEN35_CUDA(function, ...) \
  ::qwen35::cuda::check(::qwen35::cuda::opened_driver().functions.function(__VA_ARGS__), #function)
void check(CUresult result, const char* function);

}  // namespace qwen35::cuda
