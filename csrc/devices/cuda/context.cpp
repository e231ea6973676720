#include "devices/cuda/context.h"

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "devices/cuda/image.h"

namespace qwen35::cuda {
namespace {

constexpr int kOldestMajor = 8;          // Ampere: the kernels use its tensor-core and copy instructions
constexpr int kProgrammaticMajor = 9;    // Hopper
constexpr std::size_t kMostGraphs = 32;  // of different sizes of step; a graph costs the driver some megabytes
constexpr std::size_t kMiB = std::size_t{1} << 20;
constexpr std::size_t kSharedWithoutAsking = 48 << 10;

constexpr const char* kKernelNames[] = {
#define QWEN35_KERNEL(name, Args, threads) #name,
    QWEN35_CUDA_KERNELS(QWEN35_KERNEL)
#undef QWEN35_KERNEL
};

const DriverFunctions& driver() {
  const OpenedDriver& opened = opened_driver();
  if (!opened.absence.empty()) throw Unavailable("CUDA: " + opened.absence);
  return opened.functions;
}

std::string name_of(CUdevice device) {
  char name[128] = {};
  QWEN35_CUDA(cuDeviceGetName, name, static_cast<int>(sizeof name - 1), device);
  return name;
}

int attribute(CUdevice device, int which) {
  int value = 0;
  QWEN35_CUDA(cuDeviceGetAttribute, &value, which, device);
  return value;
}

std::string compute_capability(CUdevice device) {
  return std::to_string(attribute(device, kAttributeComputeMajor)) + "." +
         std::to_string(attribute(device, kAttributeComputeMinor));
}

CUdevice find_card(unsigned number) {
  CUdevice device = 0;
  QWEN35_CUDA(cuDeviceGet, &device, static_cast<int>(number));
  return device;
}

}  // namespace

std::vector<std::pair<std::string, std::string>> card_facts(unsigned number) {
  const CUdevice device = find_card(number);
  std::size_t memory = 0;
  QWEN35_CUDA(cuDeviceTotalMem, &memory, device);
  char bus[32] = {};
  QWEN35_CUDA(cuDeviceGetPCIBusId, bus, static_cast<int>(sizeof bus - 1), device);
  return {{"name", name_of(device)},
          {"compute capability", compute_capability(device)},
          {"multiprocessors", std::to_string(attribute(device, kAttributeMultiprocessors))},
          {"memory", std::to_string(memory / kMiB) + " MiB"},
          {"bus", bus}};
}

std::string card_absence(unsigned number) {
  const OpenedDriver& opened = opened_driver();
  if (!opened.absence.empty()) return opened.absence;
  const unsigned count = opened.cards;
  if (number >= count) {
    return "there is no card " + std::to_string(number) + ": the driver shows " + std::to_string(count) +
           (count == 1 ? " card" : " cards") + ", numbered from 0";
  }
  const CUdevice device = find_card(number);
  if (attribute(device, kAttributeComputeMajor) >= kOldestMajor) return {};
  return name_of(device) + " has compute capability " + compute_capability(device) +
         ", expected 8.0 or newer (RTX 30 and later)";
}

Context::Context(unsigned number) {
  driver();
  if (const std::string absence = card_absence(number); !absence.empty()) throw Unavailable("CUDA: " + absence);
  device_ = find_card(number);
  card_ = name_of(device_);
  multiprocessors_ = static_cast<unsigned>(attribute(device_, kAttributeMultiprocessors));
  is_programmatic_ = attribute(device_, kAttributeComputeMajor) >= kProgrammaticMajor;
  try {
    retain();
    QWEN35_CUDA(cuCtxSetCurrent, context_);
    load_kernels();
    QWEN35_CUDA(cuStreamCreate, &stream_, kStreamNonBlocking);
  } catch (...) {
    destroy();
    throw;
  }
}

Context::~Context() { destroy(); }

std::size_t Context::cache_bytes() const { return static_cast<std::size_t>(attribute(device_, kAttributeCacheBytes)); }

void Context::retain() {
  const CUresult result = opened_driver().functions.cuDevicePrimaryCtxRetain(&context_, device_);
  if (result == kErrorDeviceUnavailable) {
    throw Unavailable("CUDA: " + card_ +
                      " is in use by another program alone, or closed to all (its compute mode); `nvidia-smi` shows "
                      "which: close that program, or let several share the card with `nvidia-smi -c 0`");
  }
  check(result, "cuDevicePrimaryCtxRetain");
}

void Context::load_kernels() {
  const CUresult result = opened_driver().functions.cuModuleLoadData(&module_, kernel_image());
  if (result == kErrorInvalidImage || result == kErrorNoBinaryForGpu) {
    throw Unavailable("CUDA: " +
                      std::string(has_kernel_image()
                                      ? "this build has no kernels for " + card_
                                      : "this build has no CUDA kernels: it was made without QWEN35_CUDA=ON"));
  }
  check(result, "cuModuleLoadData");
  for (unsigned i = 0; i < kKernels; ++i) QWEN35_CUDA(cuModuleGetFunction, &functions_[i], module_, kKernelNames[i]);
  shared_bytes_.fill(kSharedWithoutAsking);
}

// Errors are of no use here: the context may be lost already.
void Context::destroy() noexcept {
  if (context_ == nullptr) return;
  const DriverFunctions& cuda = opened_driver().functions;
  cuda.cuCtxSetCurrent(context_);
  for (const Graph& graph : graphs_) cuda.cuGraphExecDestroy(graph.exec);
  if (stream_ != nullptr) cuda.cuStreamDestroy(stream_);
  if (module_ != nullptr) cuda.cuModuleUnload(module_);
  cuda.cuDevicePrimaryCtxRelease(device_);
}

void Context::launch(Kernel kernel, Grid grid, unsigned threads, std::size_t shared_bytes, const void* args,
                     std::size_t args_bytes) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
  const std::size_t at = bytes_.size();
  bytes_.resize(at + args_bytes);
  std::memcpy(bytes_.data() + at, args, args_bytes);
  ++launched_;
  launches_.push_back({kernel,
                       {static_cast<unsigned>(grid.x), static_cast<unsigned>(grid.y), static_cast<unsigned>(grid.z)},
                       threads,
                       static_cast<unsigned>(shared_bytes),
                       at,
                       args_bytes});
  if (!is_recording_) flush();
}

void Context::take_back() noexcept {
  bytes_.resize(launches_.back().args);
  launches_.pop_back();
  --launched_;
}

void Context::enqueue(const Launch& launch) {
  const auto number = static_cast<std::size_t>(launch.kernel);
  if (launch.shared_bytes > shared_bytes_[number]) {
    QWEN35_CUDA(cuFuncSetAttribute, functions_[number], kFunctionDynamicSharedBytes,
                static_cast<int>(launch.shared_bytes));
    shared_bytes_[number] = launch.shared_bytes;
  }
  void* parameters[] = {bytes_.data() + launch.args};
  CUlaunchAttribute programmatic{};
  programmatic.id = kLaunchProgrammaticSerialization;
  programmatic.value.programmatic_serialization_allowed = 1;
  const CUlaunchConfig config{launch.grid[0],
                              launch.grid[1],
                              launch.grid[2],
                              launch.threads,
                              1,
                              1,
                              launch.shared_bytes,
                              stream_,
                              &programmatic,
                              is_programmatic_ ? 1U : 0U};
  QWEN35_CUDA(cuLaunchKernelEx, &config, functions_[number], parameters, nullptr);
}

void Context::flush() {
  QWEN35_CUDA(cuCtxSetCurrent, context_);
  for (const Launch& launch : launches_) enqueue(launch);
  launches_.clear();
  bytes_.clear();
}

void Context::drop_recording() noexcept {
  is_recording_ = false;
  launches_.clear();
  bytes_.clear();
}

CUgraphExec Context::capture() {
  QWEN35_CUDA(cuStreamBeginCapture, stream_, kCaptureThreadLocal);
  CUgraph graph = nullptr;
  try {
    for (const Launch& launch : launches_) enqueue(launch);
  } catch (...) {
    opened_driver().functions.cuStreamEndCapture(stream_, &graph);
    if (graph != nullptr) opened_driver().functions.cuGraphDestroy(graph);
    throw;
  }
  QWEN35_CUDA(cuStreamEndCapture, stream_, &graph);
  CUgraphExec exec = nullptr;
  const CUresult result = opened_driver().functions.cuGraphInstantiate(&exec, graph, 0);
  opened_driver().functions.cuGraphDestroy(graph);
  check(result, "cuGraphInstantiateWithFlags");
  return exec;
}

void Context::end_recording() {
  is_recording_ = false;
  if (launches_.empty()) return;
  QWEN35_CUDA(cuCtxSetCurrent, context_);
  const auto is_same = [&](const Graph& graph) {
    return graph.bytes == bytes_ && std::ranges::equal(graph.launches, launches_, [](const Launch& a, const Launch& b) {
             return a.kernel == b.kernel && std::ranges::equal(a.grid, b.grid) && a.shared_bytes == b.shared_bytes;
           });
  };
  auto found = std::ranges::find_if(graphs_, is_same);
  if (found == graphs_.end()) {
    const CUgraphExec exec = capture();
    if (graphs_.size() == kMostGraphs) {
      found = std::ranges::min_element(graphs_, {}, &Graph::used);
      opened_driver().functions.cuGraphExecDestroy(found->exec);
    } else {
      found = graphs_.insert(graphs_.end(), Graph{});
    }
    *found = {launches_, bytes_, exec, 0};
  }
  found->used = ++runs_;
  launches_.clear();
  bytes_.clear();
  QWEN35_CUDA(cuGraphLaunch, found->exec, stream_);
}

void Context::copy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes) {
  flush();
  if (bytes > 0) QWEN35_CUDA(cuMemcpyDtoDAsync, to, from, bytes, stream_);
}

void Context::upload(CUdeviceptr to, const void* from, std::size_t bytes) {
  flush();
  if (bytes > 0) QWEN35_CUDA(cuMemcpyHtoDAsync, to, from, bytes, stream_);
  synchronize();
}

void Context::download(void* to, CUdeviceptr from, std::size_t bytes) {
  flush();
  if (bytes > 0) QWEN35_CUDA(cuMemcpyDtoHAsync, to, from, bytes, stream_);
  synchronize();
}

void Context::fill(CUdeviceptr to, unsigned char value, std::size_t bytes) {
  flush();
  if (bytes > 0) QWEN35_CUDA(cuMemsetD8Async, to, value, bytes, stream_);
}

void Context::synchronize() {
  flush();
  QWEN35_CUDA(cuStreamSynchronize, stream_);
}

void Context::make_current() { QWEN35_CUDA(cuCtxSetCurrent, context_); }

CUdeviceptr Context::allocate(std::size_t bytes) {
  make_current();
  CUdeviceptr pointer = 0;
  const CUresult result = opened_driver().functions.cuMemAlloc(&pointer, bytes);
  if (result == kErrorOutOfMemory) {
    std::size_t free = 0, total = 0;
    QWEN35_CUDA(cuMemGetInfo, &free, &total);
    throw OutOfMemory(card_ + " has no " + std::to_string((bytes + kMiB - 1) / kMiB) +
                      " MiB left: " + std::to_string(free / kMiB) + " of its " + std::to_string(total / kMiB) +
                      " MiB are free. Close what else uses it, or choose a smaller model, context or KV format");
  }
  check(result, "cuMemAlloc");
  return pointer;
}

void Context::free(CUdeviceptr pointer) noexcept {
  opened_driver().functions.cuCtxSetCurrent(context_);
  opened_driver().functions.cuMemFree(pointer);
}

}  // namespace qwen35::cuda
