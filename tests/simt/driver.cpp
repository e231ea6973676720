// A libcuda.so.1 whose device is this processor: the device itself, its memory and its kernels. streams.cpp has the
// rest. It answers what a program may not do with the code that the driver has for it.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "call.h"
#include "settings.h"

namespace simt {

thread_local CUcontext current_context = nullptr;

namespace {

constexpr unsigned kSharedAtFirst = 48 * 1024;  // that a function may have unless it asks for more

int shared_limit() {
  switch (settings().compute) {
    case 80:
      return 163 * 1024;
    case 90:
    case 100:
      return 227 * 1024;
    default:
      return 99 * 1024;
  }
}

struct ErrorName {
  CUresult error;
  const char* name;
  const char* text;
};
constexpr ErrorName kErrorNames[] = {
    {kSuccess, "CUDA_SUCCESS", "no error"},
    {kErrorInvalidValue, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {kErrorOutOfMemory, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {kErrorNotInitialized, "CUDA_ERROR_NOT_INITIALIZED", "initialization error"},
    {kErrorDeviceUnavailable, "CUDA_ERROR_DEVICE_UNAVAILABLE", "CUDA-capable device(s) is/are busy or unavailable"},
    {kErrorNoDevice, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {kErrorInvalidDevice, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {kErrorInvalidImage, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {kErrorInvalidContext, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {kErrorNoBinaryForGpu, "CUDA_ERROR_NO_BINARY_FOR_GPU", "no kernel image is available for execution on the device"},
    {kErrorInvalidHandle, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {kErrorNotFound, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {kErrorNotReady, "CUDA_ERROR_NOT_READY", "device not ready"},
    {kErrorIllegalAddress, "CUDA_ERROR_ILLEGAL_ADDRESS", "an illegal memory access was encountered"},
    {kErrorLaunchFailed, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {kErrorCaptureUnsupported, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {kErrorCaptureInvalidated, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {kErrorCaptureUnmatched, "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", "capture was not initiated in this stream"},
    {kErrorCaptureUnjoined, "CUDA_ERROR_STREAM_CAPTURE_UNJOINED", "capturing stream has unjoined work"},
    {kErrorCaptureIsolation, "CUDA_ERROR_STREAM_CAPTURE_ISOLATION", "dependency created on uncaptured work"},
};

CUresult describe(CUresult error, const char** text, const char* ErrorName::* part) {
  const auto* found = std::find_if(std::begin(kErrorNames), std::end(kErrorNames),
                                   [error](const ErrorName& one) { return one.error == error; });
  *text = found == std::end(kErrorNames) ? nullptr : found->*part;
  return *text ? kSuccess : kErrorInvalidValue;
}

CUresult check_launch(const CUlaunchConfig& config, const CUfunc_st& function) {
  const std::uint64_t threads = std::uint64_t{config.block_x} * config.block_y * config.block_z;
  const bool fits_grid = config.grid_x && config.grid_x <= 0x7fffffff && config.grid_y && config.grid_y <= 65535 &&
                         config.grid_z && config.grid_z <= 65535;
  const bool fits_block = threads && threads <= function.kernel.most_threads && config.block_x <= 1024 &&
                          config.block_y <= 1024 && config.block_z <= 64;
  return fits_grid && fits_block && config.shared_bytes <= function.dynamic_shared_limit ? kSuccess
                                                                                         : kErrorInvalidValue;
}

CUresult launch(const CUlaunchConfig& config, CUfunction function, void** parameters, void** extra) {
  return call_on(config.stream, [&](Device& d, CUstream_st& stream) {
    if (!d.functions.holds(function)) return kErrorInvalidHandle;
    if (extra || !parameters || check_launch(config, *function) != kSuccess) return kErrorInvalidValue;
    Launch launch;
    launch.grid = {config.grid_x, config.grid_y, config.grid_z};
    launch.block = {config.block_x, config.block_y, config.block_z};
    launch.shared_bytes = config.shared_bytes;
    launch.shared_limit = std::max(kSharedAtFirst, function->dynamic_shared_limit);
    for (unsigned i = 0; i < config.attribute_count; ++i) {
      const CUlaunchAttribute& attribute = config.attributes[i];
      if (attribute.id != kLaunchProgrammaticSerialization) return kErrorInvalidValue;
      launch.is_programmatic = attribute.value.programmatic_serialization_allowed != 0;
    }
    const Kernel kernel = function->kernel;
    const auto* first = static_cast<const unsigned char*>(parameters[0]);
    const std::vector<unsigned char> arguments(first, first + kernel.argument_bytes);
    d.enqueue(stream, [&d, kernel, arguments, launch] { d.launch(kernel, arguments, launch); });
    return kSuccess;
  });
}

}  // namespace

}  // namespace simt

namespace qwen35::cuda {

using namespace simt;

CUresult cuInit(unsigned flags) {
  const std::lock_guard lock(device_mutex());
  if (flags) return kErrorInvalidValue;
  if (settings().init_result) return static_cast<CUresult>(settings().init_result);
  if (!settings().devices) return kErrorNoDevice;
  device().is_initialized = true;
  return kSuccess;
}

CUresult cuDriverGetVersion(int* version) {
  *version = static_cast<int>(settings().driver_version);
  return kSuccess;
}

CUresult cuGetErrorName(CUresult error, const char** name) { return simt::describe(error, name, &ErrorName::name); }
CUresult cuGetErrorString(CUresult error, const char** text) { return simt::describe(error, text, &ErrorName::text); }

CUresult cuDeviceGetCount(int* count) {
  return call_anywhere([&](Device&) {
    *count = static_cast<int>(settings().devices);
    return kSuccess;
  });
}

CUresult cuDeviceGet(CUdevice* device, int ordinal) {
  return call_anywhere([&](Device&) {
    if (ordinal < 0 || ordinal >= settings().devices) return kErrorInvalidDevice;
    *device = ordinal;
    return kSuccess;
  });
}

CUresult cuDeviceGetName(char* name, int bytes, CUdevice) {
  return call_anywhere([&](Device&) {
    std::snprintf(name, static_cast<std::size_t>(bytes), "simt, compute capability %ld.%ld", settings().compute / 10,
                  settings().compute % 10);
    return kSuccess;
  });
}

CUresult cuDeviceGetPCIBusId(char* text, int bytes, CUdevice device) {
  return call_anywhere([&](Device&) {
    std::snprintf(text, static_cast<std::size_t>(bytes), "0000:%02x:00.0", static_cast<unsigned>(device) + 1);
    return kSuccess;
  });
}

CUresult cuDeviceTotalMem_v2(std::size_t* bytes, CUdevice) {
  return call_anywhere([&](Device&) {
    *bytes = static_cast<std::size_t>(settings().memory);
    return kSuccess;
  });
}

CUresult cuDeviceGetAttribute(int* value, int attribute, CUdevice) {
  return call_anywhere([&](Device&) {
    switch (attribute) {
      case kAttributeMultiprocessors:
        *value = static_cast<int>(settings().multiprocessors);
        return kSuccess;
      case kAttributeCacheBytes:
        *value = static_cast<int>(settings().cache);
        return kSuccess;
      case kAttributeComputeMajor:
        *value = static_cast<int>(settings().compute / 10);
        return kSuccess;
      case kAttributeComputeMinor:
        *value = static_cast<int>(settings().compute % 10);
        return kSuccess;
      case kAttributeSharedBytesOptin:
        *value = shared_limit();
        return kSuccess;
      default:
        return kErrorInvalidValue;
    }
  });
}

CUresult cuDevicePrimaryCtxRetain(CUcontext* context, CUdevice) {
  return call_anywhere([&](Device& d) {
    if (settings().retain_result) return static_cast<CUresult>(settings().retain_result);
    ++d.contexts;
    *context = &d.context;
    return kSuccess;
  });
}

CUresult cuDevicePrimaryCtxRelease_v2(CUdevice) {
  const std::lock_guard lock(device_mutex());
  Device& d = device();
  if (!d.is_initialized) return kErrorNotInitialized;
  if (!d.contexts) return kErrorInvalidContext;
  --d.contexts;
  if (!d.is_lost) return kSuccess;
  if (!d.contexts && settings().revives) d.revive();
  return kErrorLaunchFailed;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  return call_anywhere([&](Device& d) {
    if (context && (context != &d.context || !d.contexts)) return kErrorInvalidContext;
    current_context = context;
    return kSuccess;
  });
}

CUresult cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  return call([&](Device& d) {
    *total = static_cast<std::size_t>(settings().memory);
    *free = *total > d.memory.used() ? *total - d.memory.used() : 0;
    return kSuccess;
  });
}

CUresult cuMemAlloc_v2(CUdeviceptr* at, std::size_t bytes) {
  return call([&](Device& d) {
    if (d.breaks_capture()) return kErrorCaptureUnsupported;
    if (!bytes) return kErrorInvalidValue;
    d.is_lost = comes_to_pass(settings().lost_at);
    if (d.is_lost || comes_to_pass(settings().fail_allocation)) return kErrorOutOfMemory;
    void* memory = d.memory.allocate(bytes, static_cast<std::size_t>(settings().memory));
    if (!memory) return kErrorOutOfMemory;
    *at = reinterpret_cast<CUdeviceptr>(memory);
    return kSuccess;
  });
}

CUresult cuMemFree_v2(CUdeviceptr at) {
  return call([&](Device& d) {
    if (d.breaks_capture()) return kErrorCaptureUnsupported;
    d.finish();
    return d.memory.free(pointer(at)) ? kSuccess : kErrorInvalidValue;
  });
}

CUresult cuMemHostAlloc(void** at, std::size_t bytes, unsigned) {
  return call([&](Device& d) {
    if (d.breaks_capture()) return kErrorCaptureUnsupported;
    if (!bytes) return kErrorInvalidValue;
    if (comes_to_pass(settings().fail_pinned)) return kErrorOutOfMemory;
    *at = d.pinned.allocate(bytes, ~std::size_t{0} / 2);
    return kSuccess;
  });
}

CUresult cuMemFreeHost(void* at) {
  return call([&](Device& d) {
    if (d.breaks_capture()) return kErrorCaptureUnsupported;
    d.finish();
    return d.pinned.free(at) ? kSuccess : kErrorInvalidValue;
  });
}

CUresult cuModuleLoadData(CUmodule* module, const void* image) {
  return call([&](Device& d) {
    if (!image) return kErrorInvalidValue;
    if (settings().load_result) return static_cast<CUresult>(settings().load_result);
    *module = d.modules.add(std::make_unique<CUmod_st>());
    return kSuccess;
  });
}

CUresult cuModuleUnload(CUmodule module) {
  return call([&](Device& d) { return d.modules.remove(module) ? kSuccess : kErrorInvalidHandle; });
}

CUresult cuModuleGetFunction(CUfunction* function, CUmodule module, const char* name) {
  return call([&](Device& d) {
    if (!d.modules.holds(module)) return kErrorInvalidHandle;
    for (const Kernel& kernel : kernels()) {
      if (std::strcmp(kernel.name, name)) continue;
      *function = d.functions.add(std::make_unique<CUfunc_st>(CUfunc_st{kernel, kSharedAtFirst}));
      return kSuccess;
    }
    return kErrorNotFound;
  });
}

CUresult cuFuncSetAttribute(CUfunction function, int attribute, int value) {
  return call([&](Device& d) {
    if (!d.functions.holds(function)) return kErrorInvalidHandle;
    if (attribute != kFunctionDynamicSharedBytes || value < 0 || value > shared_limit()) return kErrorInvalidValue;
    function->dynamic_shared_limit = static_cast<unsigned>(value);
    return kSuccess;
  });
}

CUresult cuLaunchKernel(CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,
                        unsigned block_y, unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters,
                        void** extra) {
  return simt::launch({grid_x, grid_y, grid_z, block_x, block_y, block_z, shared_bytes, stream, nullptr, 0}, function,
                      parameters, extra);
}

CUresult cuLaunchKernelEx(const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra) {
  return simt::launch(*config, function, parameters, extra);
}

// For tests. Returns 1 where there is no such setting.
SIMT_EXPORT int simt_set(const char* key, long value) {
  const std::lock_guard lock(device_mutex());
  long* setting = settings().find(key);
  if (setting) *setting = value;
  return setting ? 0 : 1;
}

// A setting, or: launches, graph_launches, allocations, pinned_allocations, used (bytes), to_host and to_device (bytes
// copied), waiting (work of all streams), streams, events, graphs, contexts. -1 where there is none. A lost device
// stays lost: simt_revive.
SIMT_EXPORT long simt_get(const char* key) {
  const std::lock_guard lock(device_mutex());
  const Device& d = device();
  const auto count = [](std::size_t n) { return static_cast<long>(n); };
  const std::pair<std::string_view, long> counts[] = {
      {"launches", d.launches},
      {"graph_launches", d.graph_launches},
      {"allocations", count(d.memory.count())},
      {"pinned_allocations", count(d.pinned.count())},
      {"used", count(d.memory.used())},
      {"to_host", count(d.to_host)},
      {"to_device", count(d.to_device)},
      {"waiting", count(d.waiting())},
      {"streams", count(d.streams.count())},
      {"events", count(d.events.count())},
      {"graphs", count(d.graphs.count() + d.execs.count())},
      {"contexts", d.contexts},
  };
  for (const auto& [name, value] : counts) {
    if (name == key) return value;
  }
  const long* setting = settings().find(key);
  return setting ? *setting : -1;
}

SIMT_EXPORT void simt_revive() {
  const std::lock_guard lock(device_mutex());
  device().revive();
}

}  // namespace qwen35::cuda
