// A card: its primary context, the kernels' module, one stream, and the launches of a pass.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "devices/cuda/driver.h"
#include "devices/cuda/kernel_list.h"

namespace qwen35::cuda {

struct Grid {
  std::size_t x = 1, y = 1, z = 1;
};

// Why a card cannot be used: its name and what it lacks. Empty where it can.
std::string card_absence(unsigned number);

// Of a card, of use or not: name, compute capability, multiprocessors, memory, bus.
std::vector<std::pair<std::string, std::string>> card_facts(unsigned number);

class Context {
 public:
  // Throws DeviceError, OutOfMemory or Unavailable.
  explicit Context(unsigned number);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  CUstream stream() const noexcept { return stream_; }
  unsigned multiprocessors() const noexcept { return multiprocessors_; }
  std::size_t cache_bytes() const;  // of the second-level cache
  const std::string& card() const noexcept { return card_; }
  std::uint64_t launches() const noexcept { return launched_; }  // of kernels, in graphs or not

  // Puts a kernel behind what was launched before. Within record() it only joins the list. A grid without blocks is
  // nothing to do.
  template <Kernel kKernel>
  void launch(Grid grid, const typename KernelOf<kKernel>::Args& args, std::size_t shared_bytes = 0,
              unsigned threads = KernelOf<kKernel>::kThreads) {
    static_assert(std::is_trivially_copyable_v<typename KernelOf<kKernel>::Args>);
    launch(kKernel, grid, threads, shared_bytes, &args, sizeof args);
  }

  // Of the launch that was recorded last and has not run, if it is of this kernel: its arguments. take_back() drops it.
  template <Kernel kKernel>
  std::optional<typename KernelOf<kKernel>::Args> last_recorded() const noexcept {
    if (launches_.empty() || launches_.back().kernel != kKernel) return std::nullopt;
    typename KernelOf<kKernel>::Args args;
    std::memcpy(&args, bytes_.data() + launches_.back().args, sizeof args);
    return args;
  }
  void take_back() noexcept;

  // Until end_recording(), launches are collected; the list is then run as a graph: captured the first time, replayed
  // whenever the same kernels come with the same grids and arguments.
  void begin_recording() noexcept { is_recording_ = true; }
  void end_recording();
  void drop_recording() noexcept;
  // Runs what is collected now, without a graph.
  void flush();

  // Copies behind what was launched before; those from and to the host wait, since it may use its memory at once.
  void copy(CUdeviceptr to, CUdeviceptr from, std::size_t bytes);
  void upload(CUdeviceptr to, const void* from, std::size_t bytes);
  void download(void* to, CUdeviceptr from, std::size_t bytes);
  void fill(CUdeviceptr to, unsigned char value, std::size_t bytes);
  void synchronize();
  void make_current();                      // for this thread's calls of the driver
  CUdeviceptr allocate(std::size_t bytes);  // throws OutOfMemory that names what is free
  void free(CUdeviceptr pointer) noexcept;

 private:
  struct Launch {
    Kernel kernel;
    unsigned grid[3];
    unsigned threads;
    unsigned shared_bytes;
    std::size_t args;  // in bytes_
    std::size_t args_bytes;
  };
  struct Graph {
    std::vector<Launch> launches;
    std::vector<std::byte> bytes;
    CUgraphExec exec;
    std::uint64_t used;  // when last
  };

  void launch(Kernel kernel, Grid grid, unsigned threads, std::size_t shared_bytes, const void* args,
              std::size_t args_bytes);
  void enqueue(const Launch& launch);
  CUgraphExec capture();
  void retain();
  void load_kernels();
  void destroy() noexcept;

  CUdevice device_ = 0;
  CUcontext context_ = nullptr;
  CUmodule module_ = nullptr;
  CUstream stream_ = nullptr;
  std::array<CUfunction, kKernels> functions_{};
  std::array<unsigned, kKernels> shared_bytes_{};  // that a function was allowed
  unsigned multiprocessors_ = 0;
  bool is_programmatic_ = false;  // a kernel may begin before the one before it has ended
  std::string card_;

  bool is_recording_ = false;
  std::vector<Launch> launches_;
  std::vector<std::byte> bytes_;
  std::vector<Graph> graphs_;
  std::uint64_t runs_ = 0;
  std::uint64_t launched_ = 0;
};

}  // namespace qwen35::cuda
