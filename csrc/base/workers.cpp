#include "base/workers.h"

#include <algorithm>
#include <chrono>
#include <fstream>
#include <string>
#include <system_error>
#include <utility>

#if defined(__linux__)
#include <sched.h>
#endif
#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#endif

namespace qwen35 {
namespace {

// Longer than the gap between two operations of a forward pass, shorter than anyone would notice on a shared core.
constexpr std::chrono::microseconds kSpin{30};

void relax() noexcept {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
  _mm_pause();
#elif defined(__aarch64__) && !defined(_MSC_VER)
  asm volatile("isb" ::: "memory");
#endif
}

// Until the value is no longer `old`: spin for kSpin, then sleep. Returns the new value.
std::uint32_t wait_for_change(const std::atomic<std::uint32_t>& value, std::uint32_t old) noexcept {
  const auto deadline = std::chrono::steady_clock::now() + kSpin;
  do {
    for (int i = 0; i < 64; ++i) {
      const std::uint32_t now = value.load(std::memory_order_acquire);
      if (now != old) return now;
      relax();
    }
  } while (std::chrono::steady_clock::now() < deadline);
  value.wait(old, std::memory_order_acquire);
  return value.load(std::memory_order_acquire);
}

#if defined(__linux__)
// Whole processors that a quota of `quota` in every `period` allows; 0 when there is none.
unsigned whole_processors(double quota, double period) noexcept {
  if (!(quota > 0.0) || !(period > 0.0)) return 0;
  return std::max(1U, static_cast<unsigned>(std::min(quota / period, 65536.0)));
}

// The tightest cpu.max from this process's control group up to the root (version 2), or the quota of version 1.
unsigned quota_processors() {
  unsigned fewest = 0;
  const auto tighten = [&](unsigned n) { fewest = n == 0 ? fewest : fewest == 0 ? n : std::min(fewest, n); };
  std::string line, group = "/";
  for (std::ifstream own("/proc/self/cgroup"); std::getline(own, line);) {
    if (line.rfind("0::", 0) == 0) group = line.substr(3);
  }
  for (;;) {
    double quota = 0.0, period = 0.0;
    if (std::ifstream file("/sys/fs/cgroup" + group + "/cpu.max"); file >> quota >> period) {
      tighten(whole_processors(quota, period));
    }
    const std::size_t slash = group.rfind('/');
    if (group.empty() || slash == std::string::npos) break;
    group.resize(slash);
  }
  double quota = 0.0, period = 0.0;
  std::ifstream quota_file("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"), period_file("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
  if (quota_file >> quota && period_file >> period) tighten(whole_processors(quota, period));
  return fewest;
}
#endif

}  // namespace

unsigned usable_threads() noexcept {
  unsigned n = std::max(1U, std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t mask;
  if (sched_getaffinity(0, sizeof mask, &mask) == 0) n = std::max(1U, static_cast<unsigned>(CPU_COUNT(&mask)));
  try {
    if (const unsigned quota = quota_processors()) n = std::min(n, quota);
  } catch (...) {  // out of memory while reading a limit: the mask alone has to do
  }
#endif
  return n;
}

Workers::Workers(unsigned threads)
    : count_(threads == 0 ? usable_threads() : threads), bells_(std::make_unique<Bell[]>(count_)) {
  threads_.reserve(count_ - 1);
  try {
    for (unsigned worker = 1; worker < count_; ++worker) {
      threads_.emplace_back([this, worker] { work(worker); });
    }
  } catch (const std::system_error&) {  // the system gives no more threads: work with those we have
    count_ = static_cast<unsigned>(threads_.size()) + 1;
  }
}

Workers::~Workers() {
  stopped_ = true;
  for (unsigned worker = 1; worker < count_; ++worker) {
    bells_[worker].rung.fetch_add(1, std::memory_order_release);
    bells_[worker].rung.notify_one();
  }
  for (std::thread& thread : threads_) thread.join();
}

void Workers::run(unsigned parts, void* fn, Part call) {
  const std::scoped_lock turn(turn_);
  if (parts == 1) {
    call(fn, 0);
    return;
  }
  fn_ = fn;
  call_ = call;
  busy_.store(parts - 1, std::memory_order_relaxed);
  for (unsigned worker = 1; worker < parts; ++worker) {
    bells_[worker].rung.fetch_add(1, std::memory_order_release);
    bells_[worker].rung.notify_one();
  }
  call_part(0);
  wait_for_others();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
}

void Workers::wait_for_others() noexcept {
  std::uint32_t left = busy_.load(std::memory_order_acquire);
  if (left == 0) return;
  const auto begin = std::chrono::steady_clock::now();
  while (left != 0) left = wait_for_change(busy_, left);
  const auto waited = std::chrono::steady_clock::now() - begin;
  waited_.fetch_add(std::chrono::duration_cast<std::chrono::nanoseconds>(waited).count(), std::memory_order_relaxed);
}

void Workers::call_part(unsigned worker) noexcept {
  try {
    call_(fn_, worker);
  } catch (...) {
    const std::scoped_lock lock(error_mutex_);
    if (!error_) error_ = std::current_exception();
  }
}

void Workers::work(unsigned worker) noexcept {
  for (std::uint32_t seen = 0;;) {
    seen = wait_for_change(bells_[worker].rung, seen);
    if (stopped_) return;
    call_part(worker);
    busy_.fetch_sub(1, std::memory_order_acq_rel);
    busy_.notify_one();
  }
}

}  // namespace qwen35
