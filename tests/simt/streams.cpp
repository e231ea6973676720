// The driver's streams: copies, events, captures and graphs.
#include <cstring>

#include "call.h"
#include "settings.h"

namespace qwen35::cuda {

using namespace simt;

namespace {

// As the driver does: from pageable memory the bytes are taken at the call, from pinned memory, or where a graph is
// captured, when the copy's turn comes.
Work host_to_device(Device& d, const CUstream_st& stream, void* to, const void* from, std::size_t bytes) {
  if (stream.capture || d.pinned.holds(from, bytes)) return [=] { std::memcpy(to, from, bytes); };
  const auto* first = static_cast<const unsigned char*>(from);
  return
      [to, taken = std::vector<unsigned char>(first, first + bytes)] { std::memcpy(to, taken.data(), taken.size()); };
}

void end_capture(Device& d, const std::shared_ptr<Capture>& capture) {
  for (const auto& stream : d.streams) {
    if (stream->capture == capture) stream->capture = nullptr, stream->is_origin = stream->is_ahead = false;
  }
  for (const auto& event : d.events) {
    if (event->capture == capture) event->capture = nullptr, event->stream = nullptr;
  }
}

void run_nodes(const std::vector<Work>& nodes) {
  for (const Work& node : nodes) node();
}

}  // namespace

CUresult cuMemcpyHtoDAsync_v2(CUdeviceptr to, const void* from, std::size_t bytes, CUstream on) {
  return call_on(on, [&](Device& d, CUstream_st& stream) {
    if (!bytes) return kSuccess;
    if (!d.memory.holds(pointer(to), bytes)) return kErrorInvalidValue;
    d.to_device += bytes;
    d.enqueue(stream, host_to_device(d, stream, pointer(to), from, bytes));
    return kSuccess;
  });
}

CUresult cuMemcpyDtoHAsync_v2(void* to, CUdeviceptr from, std::size_t bytes, CUstream on) {
  return call_on(on, [&](Device& d, CUstream_st& stream) {
    if (!bytes) return kSuccess;
    if (!d.memory.holds(pointer(from), bytes)) return kErrorInvalidValue;
    d.to_host += bytes;
    d.enqueue(stream, [=] { std::memcpy(to, pointer(from), bytes); });
    if (!stream.capture && !d.pinned.holds(to, bytes)) d.finish(stream);  // pageable memory: returns when it is there
    return kSuccess;
  });
}

CUresult cuMemcpyDtoDAsync_v2(CUdeviceptr to, CUdeviceptr from, std::size_t bytes, CUstream on) {
  return call_on(on, [&](Device& d, CUstream_st& stream) {
    if (!bytes) return kSuccess;
    if (!d.memory.holds(pointer(to), bytes) || !d.memory.holds(pointer(from), bytes)) return kErrorInvalidValue;
    d.enqueue(stream, [=] { std::memcpy(pointer(to), pointer(from), bytes); });
    return kSuccess;
  });
}

CUresult cuMemsetD8Async(CUdeviceptr to, unsigned char value, std::size_t bytes, CUstream on) {
  return call_on(on, [&](Device& d, CUstream_st& stream) {
    if (!bytes) return kSuccess;
    if (!d.memory.holds(pointer(to), bytes)) return kErrorInvalidValue;
    d.enqueue(stream, [=] { std::memset(pointer(to), value, bytes); });
    return kSuccess;
  });
}

CUresult cuStreamCreate(CUstream* stream, unsigned) {
  return call([&](Device& d) {
    *stream = d.streams.add(std::make_unique<CUstream_st>());
    return kSuccess;
  });
}

CUresult cuStreamDestroy_v2(CUstream stream) {
  return call_on(stream, [&](Device& d, CUstream_st& one) {
    if (one.capture) one.capture->is_broken = true;
    d.finish(one);
    return d.streams.remove(&one) ? kSuccess : kErrorInvalidHandle;
  });
}

CUresult cuStreamSynchronize(CUstream stream) {
  return call_on(stream, [&](Device& d, CUstream_st& one) {
    if (one.capture) {
      one.capture->is_broken = true;
      return kErrorCaptureUnsupported;
    }
    d.finish(one);
    return kSuccess;
  });
}

// An event of a capture takes the stream into it; waiting for one of a side stream joins that stream to the origin.
CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned) {
  return call_on(stream, [&](Device& d, CUstream_st& one) {
    if (!d.events.holds(event)) return kErrorInvalidHandle;
    if (!event->capture) {
      if (one.capture) return kErrorCaptureIsolation;
      if (!comes_to_pass(settings().forget_wait)) d.await(one, *event);
      return kSuccess;
    }
    if (one.capture && one.capture != event->capture) return kErrorInvalidValue;
    one.capture = event->capture;
    event->stream->is_ahead = false;
    if (!one.is_origin) one.is_ahead = true;
    return kSuccess;
  });
}

CUresult cuEventCreate(CUevent* event, unsigned) {
  return call([&](Device& d) {
    *event = d.events.add(std::make_unique<CUevent_st>());
    return kSuccess;
  });
}

CUresult cuEventRecord(CUevent event, CUstream on) {
  return call_on(on, [&](Device& d, CUstream_st& stream) {
    if (!d.events.holds(event)) return kErrorInvalidHandle;
    event->capture = stream.capture;
    if (stream.capture) {
      event->stream = &stream;
      return kSuccess;
    }
    d.record(*event, stream);
    return kSuccess;
  });
}

CUresult cuEventSynchronize(CUevent event) {
  return call([&](Device& d) {
    if (!d.events.holds(event)) return kErrorInvalidHandle;
    if (event->capture) {
      event->capture->is_broken = true;
      return kErrorCaptureUnsupported;
    }
    if (event->mark) d.reach(*event->mark);
    return kSuccess;
  });
}

CUresult cuEventElapsedTime(float* milliseconds, CUevent from, CUevent to) {
  return call([&](Device& d) {
    if (!d.events.holds(from) || !d.events.holds(to)) return kErrorInvalidHandle;
    if (!from->mark || !to->mark) return kErrorInvalidHandle;
    if (!from->mark->is_reached || !to->mark->is_reached) return kErrorNotReady;
    *milliseconds = std::chrono::duration<float, std::milli>(to->mark->time - from->mark->time).count();
    return kSuccess;
  });
}

CUresult cuEventDestroy_v2(CUevent event) {
  return call([&](Device& d) { return d.events.remove(event) ? kSuccess : kErrorInvalidHandle; });
}

CUresult cuStreamBeginCapture_v2(CUstream stream, int mode) {
  return call_on(stream, [&](Device&, CUstream_st& one) {
    if (!stream) return kErrorCaptureUnsupported;  // the default stream takes part in none
    if (one.capture || mode != kCaptureThreadLocal) return kErrorInvalidValue;
    one.capture = std::make_shared<Capture>();
    one.capture->thread = std::this_thread::get_id();
    one.is_origin = true;
    return kSuccess;
  });
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph* graph) {
  return call_on(stream, [&](Device& d, CUstream_st& one) {
    *graph = nullptr;
    if (!one.capture || !one.is_origin) return kErrorCaptureUnmatched;
    const std::shared_ptr<Capture> capture = one.capture;
    one.is_ahead = false;
    bool is_unjoined = false;
    for (const auto& other : d.streams) is_unjoined |= other->capture == capture && other->is_ahead;
    end_capture(d, capture);
    if (capture->is_broken) return kErrorCaptureInvalidated;
    if (is_unjoined) return kErrorCaptureUnjoined;
    *graph = d.graphs.add(std::make_unique<CUgraph_st>(CUgraph_st{std::move(capture->nodes)}));
    return kSuccess;
  });
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph graph, unsigned long long) {
  return call([&](Device& d) {
    if (!d.graphs.holds(graph)) return kErrorInvalidHandle;
    *exec = d.execs.add(std::make_unique<CUgraphExec_st>(CUgraphExec_st{graph->nodes}));
    return kSuccess;
  });
}

CUresult cuGraphLaunch(CUgraphExec exec, CUstream on) {
  return call_on(on, [&](Device& d, CUstream_st& stream) {
    if (!d.execs.holds(exec)) return kErrorInvalidHandle;
    if (stream.capture) return kErrorCaptureUnsupported;
    ++d.graph_launches;
    d.enqueue(stream, [exec] { run_nodes(exec->nodes); });
    return kSuccess;
  });
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  return call([&](Device& d) {
    d.finish();
    return d.execs.remove(exec) ? kSuccess : kErrorInvalidHandle;
  });
}

CUresult cuGraphDestroy(CUgraph graph) {
  return call([&](Device& d) { return d.graphs.remove(graph) ? kSuccess : kErrorInvalidHandle; });
}

}  // namespace qwen35::cuda
