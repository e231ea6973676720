// A grid of device threads on one thread of the host. Each device thread is a fiber, which runs until it waits for
// others (block barrier, warp collective) or ends. Every interleaving that a run shows is one that hardware could
// show, and a run with the same seed repeats bit for bit. Blocks run one after the other: none may spin on another.
#pragma once

#include <cstddef>

#include "async_copies.h"

namespace simt {

struct Index {
  unsigned x, y, z;
};
struct Extent {
  unsigned x = 1, y = 1, z = 1;
};

inline constexpr unsigned kWarp = 32;
inline constexpr unsigned kMostThreads = 1024;  // of a block

// What a thread waits in; the report of a stuck block names it.
enum class Wait : unsigned char { kSyncthreads, kSyncwarp, kShuffle, kVote, kLdmatrix, kMma };

struct Thread {
  Index index;
  unsigned id;
  unsigned char* stack;  // null before the thread's first turn
  void* stack_pointer;
  bool is_done, is_waiting, has_seen_dependency;
  Wait what;
  unsigned mask;  // of the collective it waits in
  void* place;    // what it brings to that collective and takes from it
  AsyncCopies copies;
  void* tsan_fiber;
  void* asan_fake_stack;
};

extern thread_local Thread* current;
extern thread_local Index block_index;
extern thread_local Extent block_extent, grid_extent;

inline unsigned lane() { return current->id % kWarp; }

// Returns when every thread of the block that has not ended is here.
void block_wait();

// Returns when every lane of `mask` is here with the same `what` and `mask`; the last one to come calls `finish` with
// the lanes' places. Orders memory, in ThreadSanitizer's eyes, only as __syncwarp does: for Wait::kSyncwarp.
using Finish = void (*)(void* const (&places)[kWarp], unsigned mask);
void warp_wait(unsigned mask, Wait what, void* place, Finish finish);

void grid_dependency_passed();  // this thread has waited for the kernel before

unsigned char* dynamic_shared();  // the block's, filled with 0xa5 at its start
// The block's variable of that tag, the same for all its threads and filled with 0xa5 too.
void* static_shared(const void* tag, std::size_t bytes);
bool is_shared(const void* at);

// Ends the process with a line that names the thread.
[[noreturn]] void fail(const char* what);

struct Launch {
  void (*kernel)(const void* arguments);
  const void* arguments;
  Extent grid, block;
  std::size_t shared_bytes = 0;          // dynamic
  std::size_t shared_limit = 48 * 1024;  // static and dynamic together
  unsigned seed = 0;                     // of the order of blocks and of the threads' turns; 0: ascending
  bool is_programmatic = false;  // may begin before the kernel ahead of it ends: every thread must wait for that one
};
void run(const Launch& launch);

}  // namespace simt
