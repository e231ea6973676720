// How every function of the driver begins.
#pragma once

#include <mutex>

#include "device.h"

namespace simt {

extern thread_local CUcontext current_context;

// Where no context is needed, or this thread's own.
template <class F>
CUresult call_anywhere(F&& function) {
  const std::lock_guard lock(device_mutex());
  if (!device().is_initialized) return kErrorNotInitialized;
  if (device().is_lost) return kErrorLaunchFailed;
  const CUresult result = function(device());
  return device().is_lost ? kErrorLaunchFailed : result;
}
template <class F>
CUresult call(F&& function) {
  return call_anywhere([&](Device& d) { return current_context ? function(d) : kErrorInvalidContext; });
}
// And on a stream that there is; null is the default one.
template <class F>
CUresult call_on(CUstream stream, F&& function) {
  return call([&](Device& d) {
    if (stream && !d.streams.holds(stream)) return kErrorInvalidHandle;
    return function(d, stream ? *stream : d.default_stream);
  });
}

inline void* pointer(CUdeviceptr at) { return reinterpret_cast<void*>(at); }

}  // namespace simt

// Declares every function that the core uses as the core does: a definition that differs does not compile.
namespace qwen35::cuda {
#define SIMT_EXPORT extern "C" __attribute__((visibility("default")))
#define SIMT_FUNCTION(function, symbol, parameters) SIMT_EXPORT CUresult symbol parameters;
QWEN35_CUDA_DRIVER(SIMT_FUNCTION)
#undef SIMT_FUNCTION
}  // namespace qwen35::cuda
