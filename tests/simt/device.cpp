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
  queue_.push_back(std::move(work));
  if (!settings().deferred) finish();
}

void Device::finish() {
  while (!queue_.empty()) {
    const Work work = std::move(queue_.front());
    queue_.pop_front();
    if (!is_lost) work();
  }
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
