#include "devices/cuda/driver.h"

#include "base/error.h"
#include "devices/cuda/library.h"

namespace qwen35::cuda {

namespace {

constexpr int kOldestDriver = 13000;  // the kernels' format is CUDA 13's
constexpr const char* kNeeded = "NVIDIA's driver R580 or newer is needed";

// `error (its meaning)`, as the driver names it.
std::string describe_with(const DriverFunctions& functions, CUresult result) {
  const char* name = nullptr;
  const char* text = nullptr;
  if (functions.cuGetErrorName) functions.cuGetErrorName(result, &name);
  if (functions.cuGetErrorString) functions.cuGetErrorString(result, &text);
  const std::string code = name ? name : "CUDA error " + std::to_string(result);
  return text ? code + " (" + text + ")" : code;
}

// The first function that the library lacks, or null.
const char* find_functions(const Library& library, DriverFunctions& functions) {
  const char* missing = nullptr;
#define QWEN35_FIND(function, symbol, parameters)                                             \
  functions.function = reinterpret_cast<decltype(functions.function)>(library.find(#symbol)); \
  if (!functions.function && !missing) missing = #symbol;
  QWEN35_CUDA_DRIVER(QWEN35_FIND)
#undef QWEN35_FIND
  return missing;
}

// Why the driver cannot be used; empty where it can.
std::string start(const Library& library, OpenedDriver& driver) {
  DriverFunctions& functions = driver.functions;
  if (library.is_missing()) return "there is no CUDA driver";
  if (!library.is_open()) return "the CUDA driver does not open (" + library.error() + "); " + kNeeded;
  const char* missing = find_functions(library, functions);
  if (functions.cuDriverGetVersion) functions.cuDriverGetVersion(&driver.version);
  if (driver.version < kOldestDriver) {
    return "the CUDA driver knows CUDA " + version_text(driver.version) + ", but " + version_text(kOldestDriver) +
           " is asked for; " + kNeeded;
  }
  if (missing) return "the CUDA driver has no " + std::string(missing) + "; " + kNeeded;
  const CUresult result = functions.cuInit(0);
  int count = 0;
  if (result == kSuccess) functions.cuDeviceGetCount(&count);
  driver.cards = static_cast<unsigned>(count);
  if (result == kErrorNoDevice || (result == kSuccess && count == 0)) return "the CUDA driver finds no NVIDIA card";
  if (result != kSuccess) return "the CUDA driver does not start: cuInit answers " + describe_with(functions, result);
  return "";
}

OpenedDriver open_driver() {
  OpenedDriver opened;
  opened.absence = start(Library(), opened);
  return opened;
}

}  // namespace

const OpenedDriver& opened_driver() {
  static const OpenedDriver opened = open_driver();
  return opened;
}

std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}

std::string describe(CUresult result) { return describe_with(opened_driver().functions, result); }

void check(CUresult result, const char* function) {
  if (result == kSuccess) return;
  const std::string message = std::string("CUDA: ") + function + " answers " + describe(result);
  if (result == kErrorOutOfMemory)
    throw OutOfMemory(message + "; close what else uses the card or this machine's memory");
  throw DeviceError(message);
}

}  // namespace qwen35::cuda
