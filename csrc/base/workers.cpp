#include "base/workers.h"

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "base/processors.h"

#if defined(_MSC_VER) && (defined(_M_X64) || defined(_M_IX86))
#include <intrin.h>
#endif

namespace qwen35 {
namespace {

// Spin time before sleeping: longer than the gap between two operations of a forward pass, short enough for a shared
// core.
constexpr std::chrono::microseconds kSpin{30};

// Pieces per share: enough that waiting for the last piece is a small part of the loop; a piece is at least a quarter
// of the grain.
constexpr std::size_t kPieces = 16;
constexpr std::size_t kPiecesPerGrain = 4;

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

}  // namespace

Workers::Workers(unsigned threads)
    : count_(threads == 0 ? usable_threads() : threads),
      events_(std::make_unique<Event[]>(count_)),
      shares_(std::make_unique<Share[]>(count_)) {
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
    events_[worker].rung.fetch_add(1, std::memory_order_release);
    events_[worker].rung.notify_one();
  }
  for (std::thread& thread : threads_) thread.join();
}

// Static partition: the thread that packs a panel (first touch) is the one that streams it later.
void Workers::share_out(unsigned parts, Items items) noexcept {
  const std::size_t whole = items.count / parts, rest = items.count % parts;
  const std::size_t piece = parts == 1 ? items.count : std::max(whole / kPieces, items.grain / kPiecesPerGrain);
  std::size_t begin = 0;
  for (unsigned i = 0; i < parts; ++i) {
    Share& share = shares_[i];
    share.next.store(begin, std::memory_order_relaxed);
    begin += whole + (i < rest ? 1 : 0);
    share.end = begin;
    share.piece = std::max<std::size_t>(1, piece);
  }
}

void Workers::run(unsigned parts, Items items, void* fn, Part call) {
  share_out(parts, items);
  if (parts == 1) {
    call(fn, 0);
    return;
  }
  fn_ = fn;
  call_ = call;
  busy_.store(parts - 1, std::memory_order_relaxed);
  for (unsigned worker = 1; worker < parts; ++worker) {
    events_[worker].rung.fetch_add(1, std::memory_order_release);
    events_[worker].rung.notify_one();
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
    seen = wait_for_change(events_[worker].rung, seen);
    if (stopped_) return;
    call_part(worker);
    busy_.fetch_sub(1, std::memory_order_acq_rel);
    busy_.notify_one();
  }
}

}  // namespace qwen35
