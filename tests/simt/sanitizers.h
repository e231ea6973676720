// What AddressSanitizer and ThreadSanitizer (SIMT_TSAN) are told of fibers. With ThreadSanitizer the files of this
// folder are compiled without it, only device code is with it: what simt does for itself is no access of a kernel's,
// and what it does for a kernel is told here.
#pragma once

#include <cstddef>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

#if defined(SIMT_TSAN)
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* at);
void __tsan_release(void* at);
void __tsan_read_range(void* at, unsigned long bytes);
void __tsan_write_range(void* at, unsigned long bytes);
}
#endif

namespace simt {

#if defined(SIMT_TSAN)
// Threads that have ended keep their stacks and shared memory until no later block can be mistaken for them.
inline constexpr bool kReusesMemory = false;
inline constexpr unsigned kNoOrder = 1;  // a switch of fibers orders nothing
inline void acquire(void* edge) { __tsan_acquire(edge); }
inline void release(void* edge) { __tsan_release(edge); }
inline void read(const void* at, std::size_t bytes) {
  if (bytes) __tsan_read_range(const_cast<void*>(at), bytes);
}
inline void wrote(void* at, std::size_t bytes) {
  if (bytes) __tsan_write_range(at, bytes);
}
// memset would be seen, as an access of whichever thread is running.
inline void fill_unseen(void* at, unsigned char value, std::size_t bytes) {
  auto* to = static_cast<volatile unsigned char*>(at);
  for (std::size_t i = 0; i < bytes; ++i) to[i] = value;
}
inline void* this_fiber() { return __tsan_get_current_fiber(); }
inline void* new_fiber() { return __tsan_create_fiber(0); }
inline void announce_fiber(void* fiber) { __tsan_switch_to_fiber(fiber, kNoOrder); }
#else
inline constexpr bool kReusesMemory = true;
inline void acquire(void*) {}
inline void release(void*) {}
inline void read(const void*, std::size_t) {}
inline void wrote(void*, std::size_t) {}
inline void fill_unseen(void* at, unsigned char value, std::size_t bytes) { std::memset(at, value, bytes); }
inline void* this_fiber() { return nullptr; }
inline void* new_fiber() { return nullptr; }
inline void announce_fiber(void*) {}
#endif

#if defined(__SANITIZE_ADDRESS__)
inline void forbid(void* at, std::size_t bytes) { __asan_poison_memory_region(at, bytes); }
inline void allow(void* at, std::size_t bytes) { __asan_unpoison_memory_region(at, bytes); }
inline void leave_stack(void** fake, const void* stack, std::size_t bytes) {
  __sanitizer_start_switch_fiber(fake, stack, bytes);
}
inline void enter_stack(void* fake, const void** from, std::size_t* from_bytes) {
  __sanitizer_finish_switch_fiber(fake, from, from_bytes);
}
#else
inline void forbid(void*, std::size_t) {}
inline void allow(void*, std::size_t) {}
inline void leave_stack(void**, const void*, std::size_t) {}
inline void enter_stack(void*, const void**, std::size_t*) {}
#endif

}  // namespace simt
