// The one device: its memory, its streams of work, and what is captured into graphs. Streams are ordered by events
// alone: one that nobody waits for stands still, and with a seed it gets on at any time (run_next).
#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "devices/cuda/driver_api.h"
#include "fibers.h"
#include "kernels.h"
#include "memory.h"

namespace simt {

using qwen35::cuda::CUstream_st;
using Work = std::function<void()>;

// What an event marks: reached when all work before it in its stream is done.
struct Mark {
  CUstream_st* stream;
  bool is_reached = false;
  std::chrono::steady_clock::time_point time{};
};

// Work of a stream, or the mark of another one that has to be reached first.
struct Queued {
  Work work;
  std::shared_ptr<Mark> awaited;
};

// A sequence of calls on the streams that take part, which becomes a graph.
struct Capture {
  std::thread::id thread;
  std::vector<Work> nodes;
  bool is_broken = false;
};

}  // namespace simt

namespace qwen35::cuda {

struct CUctx_st {};
struct CUmod_st {};
struct CUfunc_st {
  simt::Kernel kernel;
  unsigned dynamic_shared_limit = 48 * 1024;
};
struct CUstream_st {
  std::deque<simt::Queued> queue;
  std::shared_ptr<simt::Capture> capture;
  bool is_origin = false;  // where the capture began
  bool is_ahead = false;   // has captured work that the origin has not waited for
};
struct CUevent_st {
  std::shared_ptr<simt::Mark> mark;  // of the last record
  std::shared_ptr<simt::Capture> capture;
  CUstream_st* stream = nullptr;  // of the capture
};
struct CUgraph_st {
  std::vector<simt::Work> nodes;
};
struct CUgraphExec_st {
  std::vector<simt::Work> nodes;
};

}  // namespace qwen35::cuda

namespace simt {

using namespace qwen35::cuda;  // the driver's types

inline constexpr CUresult kErrorNotInitialized = 3;
inline constexpr CUresult kErrorInvalidContext = 201;
inline constexpr CUresult kErrorInvalidHandle = 400;
inline constexpr CUresult kErrorNotReady = 600;
inline constexpr CUresult kErrorCaptureUnsupported = 900;
inline constexpr CUresult kErrorCaptureInvalidated = 901;
inline constexpr CUresult kErrorCaptureUnmatched = 903;
inline constexpr CUresult kErrorCaptureUnjoined = 904;
inline constexpr CUresult kErrorCaptureIsolation = 905;

// Objects of one kind that the driver has given out, in the order of their making.
template <class T>
class Handles {
 public:
  T* add(std::unique_ptr<T> object) { return objects_.emplace_back(std::move(object)).get(); }
  bool holds(const T* handle) const { return find(handle) != objects_.end(); }
  bool remove(const T* handle) {
    const auto at = find(handle);
    if (at == objects_.end()) return false;
    objects_.erase(at);
    return true;
  }
  std::size_t count() const { return objects_.size(); }
  auto begin() const { return objects_.begin(); }
  auto end() const { return objects_.end(); }

 private:
  auto find(const T* handle) const {
    auto at = objects_.begin();
    while (at != objects_.end() && at->get() != handle) ++at;
    return at;
  }
  std::vector<std::unique_ptr<T>> objects_;
};

class Device {
 public:
  // Into the capture that the stream takes part in, or to the end of its queue.
  void enqueue(CUstream_st& stream, Work work);
  void record(CUevent_st& event, CUstream_st& stream);
  void await(CUstream_st& stream, const CUevent_st& event);
  void finish();                     // all work
  void finish(CUstream_st& stream);  // that of a stream, and what it waits for
  void reach(const Mark& mark);      // as much of its stream as is before it
  std::size_t waiting() const;       // how much work is queued
  // A kernel, when its turn comes; its arguments were copied when it was launched.
  void launch(const Kernel& kernel, const std::vector<unsigned char>& arguments, Launch launch);
  void revive();  // a lost device is there again
  // Whether this thread is capturing, which forbids calls that could wait; they break the capture.
  bool breaks_capture();

  Memory memory, pinned;
  Handles<CUfunc_st> functions;
  Handles<CUmod_st> modules;
  Handles<CUstream_st> streams;
  Handles<CUevent_st> events;
  Handles<CUgraph_st> graphs;
  Handles<CUgraphExec_st> execs;
  CUctx_st context;
  CUstream_st default_stream;
  bool is_initialized = false, is_lost = false;
  long contexts = 0, launches = 0, graph_launches = 0;
  std::size_t to_host = 0, to_device = 0;  // bytes that were copied

 private:
  void push(CUstream_st& stream, Queued queued);
  void run_next(CUstream_st& stream);
  void run_others();
  void forget_work();
  template <class F>
  void each_stream(F&& visit) {
    visit(default_stream);
    for (const auto& stream : streams) visit(*stream);
  }

  std::minstd_rand turns_;
  long seed_ = 0;  // of turns_
};

Device& device();
// One call of the driver at a time.
std::mutex& device_mutex();

}  // namespace simt
