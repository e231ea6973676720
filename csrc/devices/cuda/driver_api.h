// What this program uses of the CUDA driver API, declared here so that building needs no header of NVIDIA's: names,
// values and signatures as in "CUDA Driver API" 12.0 to 13.0. The tests' driver (tests/simt) defines the same
// functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace qwen35::cuda {

using CUresult = int;
using CUdevice = int;
using CUdeviceptr = std::uint64_t;
using CUcontext = struct CUctx_st*;
using CUmodule = struct CUmod_st*;
using CUfunction = struct CUfunc_st*;
using CUstream = struct CUstream_st*;
using CUevent = struct CUevent_st*;
using CUgraph = struct CUgraph_st*;
using CUgraphExec = struct CUgraphExec_st*;

inline constexpr CUresult kSuccess = 0;
inline constexpr CUresult kErrorInvalidValue = 1;
inline constexpr CUresult kErrorOutOfMemory = 2;
inline constexpr CUresult kErrorDeviceUnavailable = 46;
inline constexpr CUresult kErrorNoDevice = 100;
inline constexpr CUresult kErrorInvalidDevice = 101;
inline constexpr CUresult kErrorInvalidImage = 200;
inline constexpr CUresult kErrorNoBinaryForGpu = 209;
inline constexpr CUresult kErrorNotFound = 500;
inline constexpr CUresult kErrorIllegalAddress = 700;
inline constexpr CUresult kErrorLaunchFailed = 719;

inline constexpr int kAttributeMultiprocessors = 16;
inline constexpr int kAttributeCacheBytes = 38;  // of the second-level cache
inline constexpr int kAttributeComputeMajor = 75;
inline constexpr int kAttributeComputeMinor = 76;
inline constexpr int kAttributeSharedBytesOptin = 97;  // the most of a block, once asked for
inline constexpr int kFunctionDynamicSharedBytes = 8;
inline constexpr unsigned kStreamNonBlocking = 1;
inline constexpr unsigned kEventDefault = 0;
inline constexpr int kCaptureThreadLocal = 1;

// CUlaunchConfig and its attributes, for programmatic dependent launch.
inline constexpr int kLaunchProgrammaticSerialization = 6;
struct CUlaunchAttribute {
  int id;
  char pad[4];
  union {
    char bytes[64];
    int programmatic_serialization_allowed;
  } value;
};
struct CUlaunchConfig {
  unsigned grid_x, grid_y, grid_z;
  unsigned block_x, block_y, block_z;
  unsigned shared_bytes;
  CUstream stream;
  CUlaunchAttribute* attributes;
  unsigned attribute_count;
};
static_assert(sizeof(CUlaunchAttribute) == 72 && sizeof(CUlaunchConfig) == 56);

// NAME(function, symbol that the driver exports, parameters).
#define QWEN35_CUDA_DRIVER(NAME)                                                                                       \
  NAME(cuInit, cuInit, (unsigned flags))                                                                               \
  NAME(cuDriverGetVersion, cuDriverGetVersion, (int* version))                                                         \
  NAME(cuGetErrorName, cuGetErrorName, (CUresult error, const char** name))                                            \
  NAME(cuGetErrorString, cuGetErrorString, (CUresult error, const char** text))                                        \
  NAME(cuDeviceGetCount, cuDeviceGetCount, (int* count))                                                               \
  NAME(cuDeviceGet, cuDeviceGet, (CUdevice * device, int ordinal))                                                     \
  NAME(cuDeviceGetName, cuDeviceGetName, (char* name, int bytes, CUdevice device))                                     \
  NAME(cuDeviceGetPCIBusId, cuDeviceGetPCIBusId, (char* text, int bytes, CUdevice device))                             \
  NAME(cuDeviceTotalMem, cuDeviceTotalMem_v2, (std::size_t* bytes, CUdevice device))                                   \
  NAME(cuDeviceGetAttribute, cuDeviceGetAttribute, (int* value, int attribute, CUdevice device))                       \
  NAME(cuDevicePrimaryCtxRetain, cuDevicePrimaryCtxRetain, (CUcontext * context, CUdevice device))                     \
  NAME(cuDevicePrimaryCtxRelease, cuDevicePrimaryCtxRelease_v2, (CUdevice device))                                     \
  NAME(cuCtxSetCurrent, cuCtxSetCurrent, (CUcontext context))                                                          \
  NAME(cuMemGetInfo, cuMemGetInfo_v2, (std::size_t* free, std::size_t* total))                                         \
  NAME(cuModuleLoadData, cuModuleLoadData, (CUmodule * module, const void* image))                                     \
  NAME(cuModuleUnload, cuModuleUnload, (CUmodule module))                                                              \
  NAME(cuModuleGetFunction, cuModuleGetFunction, (CUfunction * function, CUmodule module, const char* name))           \
  NAME(cuFuncSetAttribute, cuFuncSetAttribute, (CUfunction function, int attribute, int value))                        \
  NAME(cuMemAlloc, cuMemAlloc_v2, (CUdeviceptr * pointer, std::size_t bytes))                                          \
  NAME(cuMemFree, cuMemFree_v2, (CUdeviceptr pointer))                                                                 \
  NAME(cuMemHostAlloc, cuMemHostAlloc, (void** pointer, std::size_t bytes, unsigned flags))                            \
  NAME(cuMemFreeHost, cuMemFreeHost, (void* pointer))                                                                  \
  NAME(cuMemcpyHtoDAsync, cuMemcpyHtoDAsync_v2, (CUdeviceptr to, const void* from, std::size_t bytes, CUstream on))    \
  NAME(cuMemcpyDtoHAsync, cuMemcpyDtoHAsync_v2, (void* to, CUdeviceptr from, std::size_t bytes, CUstream on))          \
  NAME(cuMemcpyDtoDAsync, cuMemcpyDtoDAsync_v2, (CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream on))    \
  NAME(cuMemsetD8Async, cuMemsetD8Async, (CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream on))        \
  NAME(cuStreamCreate, cuStreamCreate, (CUstream * stream, unsigned flags))                                            \
  NAME(cuStreamDestroy, cuStreamDestroy_v2, (CUstream stream))                                                         \
  NAME(cuStreamSynchronize, cuStreamSynchronize, (CUstream stream))                                                    \
  NAME(cuStreamWaitEvent, cuStreamWaitEvent, (CUstream stream, CUevent event, unsigned flags))                         \
  NAME(cuEventCreate, cuEventCreate, (CUevent * event, unsigned flags))                                                \
  NAME(cuEventRecord, cuEventRecord, (CUevent event, CUstream stream))                                                 \
  NAME(cuEventSynchronize, cuEventSynchronize, (CUevent event))                                                        \
  NAME(cuEventElapsedTime, cuEventElapsedTime, (float* milliseconds, CUevent from, CUevent to))                        \
  NAME(cuEventDestroy, cuEventDestroy_v2, (CUevent event))                                                             \
  NAME(cuLaunchKernel, cuLaunchKernel,                                                                                 \
       (CUfunction function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x, unsigned block_y,    \
        unsigned block_z, unsigned shared_bytes, CUstream stream, void** parameters, void** extra))                    \
  NAME(cuLaunchKernelEx, cuLaunchKernelEx,                                                                             \
       (const CUlaunchConfig* config, CUfunction function, void** parameters, void** extra))                           \
  NAME(cuStreamBeginCapture, cuStreamBeginCapture_v2, (CUstream stream, int mode))                                     \
  NAME(cuStreamEndCapture, cuStreamEndCapture, (CUstream stream, CUgraph * graph))                                     \
  NAME(cuGraphInstantiate, cuGraphInstantiateWithFlags, (CUgraphExec * exec, CUgraph graph, unsigned long long flags)) \
  NAME(cuGraphLaunch, cuGraphLaunch, (CUgraphExec exec, CUstream stream))                                              \
  NAME(cuGraphExecDestroy, cuGraphExecDestroy, (CUgraphExec exec))                                                     \
  NAME(cuGraphDestroy, cuGraphDestroy, (CUgraph graph))

}  // namespace qwen35::cuda
