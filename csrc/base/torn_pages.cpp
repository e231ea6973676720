#include "base/torn_pages.h"

#ifdef _WIN32

namespace qwen35 {

TornPages::TornPages(const std::byte*, std::size_t) {}
TornPages::~TornPages() = default;
bool TornPages::any() const noexcept { return false; }

}  // namespace qwen35

#else

#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <mutex>

#include "base/round_up.h"

namespace qwen35 {

// Entries are reused, never freed, so that a handler may walk over them at any time.
struct TornPages::Range {
  std::atomic<std::uintptr_t> begin{0};  // of whole pages; 0 to 0 while nobody uses it
  std::atomic<std::uintptr_t> end{0};
  std::atomic<bool> is_torn{false};
  bool is_used = false;
  Range* next = nullptr;
};

struct TornPages::Registry {
  std::mutex mutex;
  std::atomic<Range*> first{nullptr};
  std::size_t watched = 0;
  bool is_installed = false;
  struct sigaction earlier{};

  static Registry& the() {
    static auto* const registry = new Registry;  // outlives every thread
    return *registry;
  }

  static void on_bus_error(int number, siginfo_t* info, void* context) {
    const int saved = errno;
    const bool mended = info->si_code > 0 && the().mend(reinterpret_cast<std::uintptr_t>(info->si_addr));
    errno = saved;
    if (!mended) hand_on(the().earlier, number, info, context);
  }

  // A file is usually truncated: everything behind the first missing page is replaced too.
  bool mend(std::uintptr_t address) const noexcept {
    for (Range* range = first.load(std::memory_order_acquire); range != nullptr; range = range->next) {
      const std::uintptr_t end = range->end.load(std::memory_order_acquire);
      if (address < range->begin.load(std::memory_order_acquire) || address >= end) continue;
      const std::uintptr_t page = address / page_size() * page_size();
      void* zeros = ::mmap(reinterpret_cast<void*>(page), end - page, PROT_READ,
                           MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
      if (zeros == MAP_FAILED) return false;
      range->is_torn.store(true, std::memory_order_release);
      return true;
    }
    return false;
  }

  static void hand_on(const struct sigaction& earlier, int number, siginfo_t* info, void* context) {
    if ((earlier.sa_flags & SA_SIGINFO) != 0) {
      earlier.sa_sigaction(number, info, context);
    } else if (earlier.sa_handler == SIG_DFL || (earlier.sa_handler == SIG_IGN && info->si_code > 0)) {
      ::signal(number, SIG_DFL);
      ::raise(number);  // delivered when this handler returns
    } else if (earlier.sa_handler != SIG_IGN) {
      earlier.sa_handler(number);
    }
  }

  static std::uintptr_t page_size() noexcept {
    static const auto size = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
    return size;
  }

  Range* add(std::uintptr_t begin, std::uintptr_t end) {
    const std::lock_guard lock(mutex);
    Range* range = first.load(std::memory_order_relaxed);
    while (range != nullptr && range->is_used) range = range->next;
    if (range == nullptr) {
      range = new Range;
      range->next = first.load(std::memory_order_relaxed);
      first.store(range, std::memory_order_release);
    }
    range->is_used = true;
    range->is_torn.store(false, std::memory_order_relaxed);
    range->begin.store(begin, std::memory_order_relaxed);
    range->end.store(end, std::memory_order_release);
    if (watched++ == 0) install();
    return range;
  }

  void remove(Range* range) noexcept {
    const std::lock_guard lock(mutex);
    if (--watched == 0) uninstall();
    range->end.store(0, std::memory_order_release);
    range->begin.store(0, std::memory_order_release);
    range->is_used = false;
  }

  void install() noexcept {
    if (is_installed) return;
    is_installed = true;
    page_size();                             // asked for outside the handler
    ::sigaction(SIGBUS, nullptr, &earlier);  // known before the handler may need it
    struct sigaction ours{};
    ours.sa_sigaction = on_bus_error;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART;
    sigemptyset(&ours.sa_mask);
    ::sigaction(SIGBUS, &ours, nullptr);
  }

  // If another handler was installed over ours, ours stays: the other one may chain to it.
  void uninstall() noexcept {
    struct sigaction current{};
    ::sigaction(SIGBUS, nullptr, &current);
    if ((current.sa_flags & SA_SIGINFO) != 0 && current.sa_sigaction == on_bus_error) {
      ::sigaction(SIGBUS, &earlier, nullptr);
      is_installed = false;
    }
  }
};

TornPages::TornPages(const std::byte* data, std::size_t bytes) {
  const std::uintptr_t page = Registry::page_size();
  const auto begin = reinterpret_cast<std::uintptr_t>(data);
  range_ = Registry::the().add(begin, round_up(begin + bytes, page));
}

TornPages::~TornPages() { Registry::the().remove(range_); }

bool TornPages::any() const noexcept { return range_->is_torn.load(std::memory_order_acquire); }

}  // namespace qwen35

#endif
