#include "device.h"

#include <utility>

#include "settings.h"

namespace simt {

Device& device() {
  static Device* const one = new Device;  // outlives whatever ends after this library's statics
  return *one;
}

std::mutex& device_mutex() {
  static std::mutex one;
  return one;
}

void Device::enqueue(CUstream_st& stream, Work work) {
  if (stream.capture) {
    stream.capture->nodes.push_back(std::move(work));
    stream.is_ahead = true;
    return;
  }
  push(stream, {std::move(work), nullptr});
}

void Device::push(CUstream_st& stream, Queued queued) {
  stream.queue.push_back(std::move(queued));
  if (!settings().deferred) finish(stream);
}

void Device::record(CUevent_st& event, CUstream_st& stream) {
  const auto mark = event.mark = std::make_shared<Mark>(Mark{&stream});
  const auto reached = [mark] {
    mark->time = std::chrono::steady_clock::now();
    mark->is_reached = true;
  };
  push(stream, {reached, nullptr});
}

void Device::await(CUstream_st& stream, const CUevent_st& event) {
  if (event.mark) push(stream, {[] {}, event.mark});
}

// The streams that nobody waits for get on, some of the time: with a seed a copy that does not wait for what it copies
// may come before it, and without one behind everything.
void Device::run_others() {
  if (!settings().seed) return;
  if (seed_ != settings().seed) turns_.seed(static_cast<unsigned>(seed_ = settings().seed));
  each_stream([&](CUstream_st& stream) {
    while (turns_() % 2 && !stream.queue.empty()) {
      const Queued& next = stream.queue.front();
      if (next.awaited && !next.awaited->is_reached) break;
      run_next(stream);
    }
  });
}

void Device::run_next(CUstream_st& stream) {
  const Queued next = std::move(stream.queue.front());
  stream.queue.pop_front();
  if (next.awaited) reach(*next.awaited);
  if (!is_lost) next.work();
}

void Device::reach(const Mark& mark) {
  const bool is_there = mark.stream == &default_stream || streams.holds(mark.stream);
  while (is_there && !mark.is_reached && !mark.stream->queue.empty()) run_next(*mark.stream);
}

void Device::finish(CUstream_st& stream) {
  for (run_others(); !stream.queue.empty(); run_others()) run_next(stream);
}

void Device::finish() {
  each_stream([&](CUstream_st& stream) { finish(stream); });
}

std::size_t Device::waiting() const {
  std::size_t count = default_stream.queue.size();
  for (const auto& stream : streams) count += stream->queue.size();
  return count;
}

void Device::forget_work() {
  each_stream([](CUstream_st& stream) { stream.queue.clear(); });
}

void Device::launch(const Kernel& kernel, const std::vector<unsigned char>& arguments, Launch launch) {
  if (is_lost) return;
  is_lost = settings().lost_after >= 0 && launches >= settings().lost_after;
  if (is_lost) return;
  const bool is_idle = settings().idle_after >= 0 && launches >= settings().idle_after;
  ++launches;
  if (is_idle) return;
  launch.kernel = kernel.call;
  launch.arguments = arguments.data();
  launch.seed = static_cast<unsigned>(settings().seed);
  run(launch);
}

void Device::revive() {
  settings().lost_after = -1;
  is_lost = false;
  forget_work();
}

bool Device::breaks_capture() {
  bool found = false;
  for (const auto& stream : streams) {
    if (!stream->capture || stream->capture->thread != std::this_thread::get_id()) continue;
    stream->capture->is_broken = found = true;
  }
  return found;
}

}  // namespace simt
