// The core's way to the driver, over the tests' driver: `driver absence` says why there is none, `driver checks` ends
// with 0 where that driver does what is asked of it, and names what it does not.
#include "devices/cuda/driver.h"

#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/error.h"
#include "checks.h"

namespace {

using namespace qwen35::cuda;

constexpr int kNotReady = 600, kCaptureUnsupported = 900, kCaptureInvalidated = 901, kCaptureUnjoined = 904;

const DriverFunctions& cuda() { return opened_driver().functions; }

template <class Function>
Function* of_simt(const char* name) {
  return reinterpret_cast<Function*>(dlsym(dlopen("libcuda.so.1", RTLD_NOW), name));
}
void set(const char* key, long value) { of_simt<int(const char*, long)>("simt_set")(key, value); }
long get(const char* key) { return of_simt<long(const char*)>("simt_get")(key); }
void revive() { of_simt<void()>("simt_revive")(); }

// A context, a stream and the module, as a program has them.
struct Program {
  CUcontext context{};
  CUmodule module{};
  CUstream stream{};
  CUfunction add{}, use_shared{};

  Program() {
    QWEN35_CUDA(cuDevicePrimaryCtxRetain, &context, 0);
    QWEN35_CUDA(cuCtxSetCurrent, context);
    QWEN35_CUDA(cuModuleLoadData, &module, "image");
    QWEN35_CUDA(cuModuleGetFunction, &add, module, "add");
    QWEN35_CUDA(cuModuleGetFunction, &use_shared, module, "use_shared");
    QWEN35_CUDA(cuStreamCreate, &stream, kStreamNonBlocking);
  }
  ~Program() {
    cuda().cuStreamDestroy(stream);
    cuda().cuModuleUnload(module);
    cuda().cuDevicePrimaryCtxRelease(0);
  }
};

struct Numbers {
  CUdeviceptr at = 0;
  explicit Numbers(unsigned count) { QWEN35_CUDA(cuMemAlloc, &at, count * sizeof(int)); }
  ~Numbers() { cuda().cuMemFree(at); }
  int first(const Program& p) const {
    int value = 0;
    QWEN35_CUDA(cuMemcpyDtoHAsync, &value, at, sizeof value, p.stream);
    QWEN35_CUDA(cuStreamSynchronize, p.stream);
    return value;
  }
};

struct Pinned {
  int* value = nullptr;
  Pinned() {
    void* at = nullptr;
    QWEN35_CUDA(cuMemHostAlloc, &at, sizeof(int), 0);
    value = static_cast<int*>(at);
  }
  ~Pinned() { cuda().cuMemFreeHost(value); }
};

struct AddArgs {
  CUdeviceptr to;
  int value;
};
CUresult launch(CUfunction function, const Program& p, CUdeviceptr to, int value, unsigned blocks = 1,
                unsigned threads = 64, unsigned shared_bytes = 0) {
  AddArgs args{to, value};
  void* parameters[] = {&args};
  return cuda().cuLaunchKernel(function, blocks, 1, 1, threads, 1, 1, shared_bytes, p.stream, parameters, nullptr);
}

bool memory_is_counted() {
  const Program p;
  std::size_t free = 0, total = 0, less = 0;
  cuda().cuMemGetInfo(&free, &total);
  {
    const Numbers numbers(1000);
    cuda().cuMemGetInfo(&less, &total);
    if (numbers.first(p) != -1) return false;  // NaN
  }
  CUdeviceptr at = 0;
  const bool is_limited = cuda().cuMemAlloc(&at, total + 1) == kErrorOutOfMemory;
  const bool is_checked =
      cuda().cuMemFree(12345) == kErrorInvalidValue && cuda().cuMemAlloc(&at, 0) == kErrorInvalidValue;
  cuda().cuMemAlloc(&at, 100);
  const bool has_bounds = cuda().cuMemsetD8Async(at, 0, 101, p.stream) == kErrorInvalidValue;
  cuda().cuMemFree(at);
  return free == total && less == total - 4096 && is_limited && is_checked && has_bounds && get("allocations") == 0;
}

bool allocations_fail_as_asked() {
  const Program p;
  set("fail_allocation", 2);
  CUdeviceptr a = 0, b = 0;
  const bool fails = cuda().cuMemAlloc(&a, 8) == kSuccess && cuda().cuMemAlloc(&b, 8) == kErrorOutOfMemory;
  const bool once = cuda().cuMemAlloc(&b, 8) == kSuccess;
  cuda().cuMemFree(a);
  cuda().cuMemFree(b);
  return fails && once;
}

bool errors_are_thrown() {
  const Program p;
  try {
    CUdeviceptr at = 0;
    QWEN35_CUDA(cuMemAlloc, &at, std::size_t{1} << 60);
    return false;
  } catch (const qwen35::OutOfMemory& error) {
    const std::string expected = "CUDA: cuMemAlloc answers CUDA_ERROR_OUT_OF_MEMORY (out of memory); ";
    if (!std::string(error.what()).starts_with(expected)) return false;
  }
  try {
    QWEN35_CUDA(cuMemFree, 1);
    return false;
  } catch (const qwen35::DeviceError&) {
    return describe(4242) == "CUDA error 4242";
  }
}

bool launches_are_checked() {
  const Program p;
  const Numbers n(1);
  constexpr unsigned kShared = 64 * 1024;
  const bool bounds = launch(p.add, p, n.at, 1, 0) == kErrorInvalidValue &&
                      launch(p.add, p, n.at, 1, 1, 65) == kErrorInvalidValue &&
                      launch(p.add, p, n.at, 1, 1, 0) == kErrorInvalidValue;
  const bool shared = launch(p.use_shared, p, n.at, 7, 1, 1, kShared) == kErrorInvalidValue;
  const bool most = cuda().cuFuncSetAttribute(p.use_shared, kFunctionDynamicSharedBytes, 1 << 20) == kErrorInvalidValue;
  QWEN35_CUDA(cuFuncSetAttribute, p.use_shared, kFunctionDynamicSharedBytes, static_cast<int>(kShared));
  const bool asked = launch(p.use_shared, p, n.at, 7, 1, 1, kShared) == kSuccess && n.first(p) == 7;
  CUfunction none{};
  return bounds && shared && most && asked && cuda().cuModuleGetFunction(&none, p.module, "none") == kErrorNotFound;
}

// Pinned memory is read when the copy's turn comes, other memory at the call.
bool work_waits() {
  const Program p;
  const Numbers n(1);
  const Pinned pinned;
  int pageable = 5;
  *pinned.value = 10;
  QWEN35_CUDA(cuMemcpyHtoDAsync, n.at, &pageable, sizeof(int), p.stream);
  pageable = 6;
  const bool taken = n.first(p) == 5;
  QWEN35_CUDA(cuMemcpyHtoDAsync, n.at, pinned.value, sizeof(int), p.stream);
  *pinned.value = 11;
  const bool late = n.first(p) == 11;
  set("deferred", 0);
  QWEN35_CUDA(cuMemcpyHtoDAsync, n.at, pinned.value, sizeof(int), p.stream);
  *pinned.value = 12;
  const bool at_once = n.first(p) == 11;
  set("deferred", 1);
  return taken && late && at_once;
}

// A copy from the host and a kernel, captured once and replayed: each time with what the host's memory then holds.
bool graphs_replay() {
  const Program p;
  const Numbers n(1);
  int value = 100;
  CUgraph graph{};
  CUgraphExec exec{};
  QWEN35_CUDA(cuStreamBeginCapture, p.stream, kCaptureThreadLocal);
  QWEN35_CUDA(cuMemcpyHtoDAsync, n.at, &value, sizeof value, p.stream);
  check(launch(p.add, p, n.at, 7), "cuLaunchKernel");
  QWEN35_CUDA(cuStreamEndCapture, p.stream, &graph);
  QWEN35_CUDA(cuGraphInstantiate, &exec, graph, 0);
  QWEN35_CUDA(cuGraphDestroy, graph);
  const bool is_untouched = n.first(p) == -1;
  bool holds = true;
  for (value = 200; value < 203; ++value) {
    QWEN35_CUDA(cuGraphLaunch, exec, p.stream);
    holds = holds && n.first(p) == value + 7;
  }
  QWEN35_CUDA(cuGraphExecDestroy, exec);
  return is_untouched && holds && get("graphs") == 0;
}

bool captures_are_guarded() {
  const Program p;
  CUgraph graph{};
  CUstream side{};
  CUevent fork{}, join{};
  QWEN35_CUDA(cuStreamCreate, &side, kStreamNonBlocking);
  QWEN35_CUDA(cuEventCreate, &fork, kEventDefault);
  QWEN35_CUDA(cuEventCreate, &join, kEventDefault);
  const Numbers n(1);
  const auto forked = [&](bool joins) {
    QWEN35_CUDA(cuStreamBeginCapture, p.stream, kCaptureThreadLocal);
    QWEN35_CUDA(cuEventRecord, fork, p.stream);
    QWEN35_CUDA(cuStreamWaitEvent, side, fork, 0);
    QWEN35_CUDA(cuMemsetD8Async, n.at, 3, 1, side);
    QWEN35_CUDA(cuEventRecord, join, side);
    if (joins) QWEN35_CUDA(cuStreamWaitEvent, p.stream, join, 0);
    return cuda().cuStreamEndCapture(p.stream, &graph);
  };
  const bool joined = forked(true) == kSuccess && cuda().cuGraphDestroy(graph) == kSuccess;
  const bool unjoined = forked(false) == kCaptureUnjoined;
  QWEN35_CUDA(cuStreamBeginCapture, p.stream, kCaptureThreadLocal);
  CUdeviceptr at = 0;
  const bool forbidden = cuda().cuMemAlloc(&at, 8) == kCaptureUnsupported;
  const bool broken = cuda().cuStreamEndCapture(p.stream, &graph) == kCaptureInvalidated;
  QWEN35_CUDA(cuEventDestroy, fork);
  QWEN35_CUDA(cuEventDestroy, join);
  QWEN35_CUDA(cuStreamDestroy, side);
  return joined && unjoined && forbidden && broken;
}

bool events_have_times() {
  const Program p;
  CUevent from{}, to{};
  float milliseconds = -1;
  QWEN35_CUDA(cuEventCreate, &from, kEventDefault);
  QWEN35_CUDA(cuEventCreate, &to, kEventDefault);
  QWEN35_CUDA(cuEventRecord, from, p.stream);
  QWEN35_CUDA(cuEventRecord, to, p.stream);
  const bool waits = cuda().cuEventElapsedTime(&milliseconds, from, to) == kNotReady;
  QWEN35_CUDA(cuEventSynchronize, to);
  QWEN35_CUDA(cuEventElapsedTime, &milliseconds, from, to);
  QWEN35_CUDA(cuEventDestroy, from);
  QWEN35_CUDA(cuEventDestroy, to);
  return waits && milliseconds >= 0 && get("events") == 0;
}

// Another stream has done nothing by the time that this one is waited for, unless an event says so: what is then read
// shows which.
bool streams_are_ordered_by_events_alone() {
  const Program p;
  const Numbers n(1), copy(1);
  CUstream side{};
  CUevent filled{}, copied{};
  QWEN35_CUDA(cuStreamCreate, &side, kStreamNonBlocking);
  QWEN35_CUDA(cuEventCreate, &filled, kEventDefault);
  QWEN35_CUDA(cuEventCreate, &copied, kEventDefault);
  const auto fill = [&](unsigned char value) {
    QWEN35_CUDA(cuMemsetD8Async, n.at, value, sizeof(int), p.stream);
    QWEN35_CUDA(cuEventRecord, filled, p.stream);
  };
  const auto copy_beside = [&] {
    QWEN35_CUDA(cuMemcpyDtoDAsync, copy.at, n.at, sizeof(int), side);
    QWEN35_CUDA(cuEventRecord, copied, side);
  };
  fill(0);
  copy_beside();
  const bool is_too_late = copy.first(p) == -1 && get("waiting") == 2;
  fill(1);
  QWEN35_CUDA(cuStreamWaitEvent, p.stream, copied, 0);
  const bool waits = copy.first(p) == 0x01010101 && get("waiting") == 0;
  fill(2);
  copy_beside();
  QWEN35_CUDA(cuEventSynchronize, copied);
  const bool is_too_early = copy.first(p) == 0x01010101;
  fill(3);
  QWEN35_CUDA(cuStreamWaitEvent, side, filled, 0);
  copy_beside();
  QWEN35_CUDA(cuStreamSynchronize, side);
  const bool is_behind = copy.first(p) == 0x03030303;
  QWEN35_CUDA(cuEventDestroy, filled);
  QWEN35_CUDA(cuEventDestroy, copied);
  QWEN35_CUDA(cuStreamDestroy, side);
  return is_too_late && waits && is_too_early && is_behind;
}

bool dependent_launches_run() {
  const Program p;
  const Numbers n(1);
  QWEN35_CUDA(cuMemsetD8Async, n.at, 0, sizeof(int), p.stream);
  CUlaunchAttribute attribute{};
  attribute.id = kLaunchProgrammaticSerialization;
  attribute.value.programmatic_serialization_allowed = 1;
  const CUlaunchConfig config{1, 1, 1, 64, 1, 1, 0, p.stream, &attribute, 1};
  AddArgs args{n.at, 4};
  void* parameters[] = {&args};
  QWEN35_CUDA(cuLaunchKernelEx, &config, p.add, parameters, nullptr);
  return n.first(p) == 4;
}

bool a_lost_device_stays_lost() {
  const Program p;
  const Numbers n(1);
  set("lost_after", get("launches") + 1);
  const bool lives = launch(p.add, p, n.at, 1) == kSuccess && cuda().cuStreamSynchronize(p.stream) == kSuccess;
  launch(p.add, p, n.at, 1);
  const bool is_lost = cuda().cuStreamSynchronize(p.stream) == kErrorLaunchFailed;
  std::size_t free = 0, total = 0;
  const bool stays = cuda().cuMemGetInfo(&free, &total) == kErrorLaunchFailed;
  revive();
  return lives && is_lost && stays && cuda().cuMemGetInfo(&free, &total) == kSuccess;
}

bool contexts_are_needed() {
  const Program p;
  std::size_t free = 0, total = 0;
  cuda().cuCtxSetCurrent(nullptr);
  const bool needed = cuda().cuMemGetInfo(&free, &total) == 201;
  cuda().cuCtxSetCurrent(p.context);
  return needed;
}

int check_all() {
  return run_checks({
      {"memory is counted", memory_is_counted},
      {"allocations fail as asked", allocations_fail_as_asked},
      {"errors are thrown", errors_are_thrown},
      {"launches are checked", launches_are_checked},
      {"work waits", work_waits},
      {"graphs replay", graphs_replay},
      {"captures are guarded", captures_are_guarded},
      {"events have times", events_have_times},
      {"streams are ordered by events alone", streams_are_ordered_by_events_alone},
      {"dependent launches run", dependent_launches_run},
      {"a lost device stays lost", a_lost_device_stays_lost},
      {"contexts are needed", contexts_are_needed},
  });
}

}  // namespace

int main(int count, char** arguments) {
  if (count != 2) return 2;
  if (!std::strcmp(arguments[1], "checks")) return check_all();
  std::printf("%s\n", opened_driver().absence.c_str());
  return 0;
}
