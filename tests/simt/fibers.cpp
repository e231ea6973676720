#include "fibers.h"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <numeric>
#include <vector>

#include "fiber_switch.h"
#include "sanitizers.h"
#include "shared_region.h"
#include "stacks.h"
#include "turns.h"

namespace simt {

thread_local Thread* current = nullptr;
thread_local Index block_index;
thread_local Extent block_extent, grid_extent;

namespace {

// What runs the blocks of a host thread's launches, one block at a time; kept for its next launch.
struct Runner {
  const Launch* launch = nullptr;
  std::minstd_rand random;
  Turns turns;
  SharedRegion shared;
  Stacks stacks;
  Thread root{};  // the host's thread, which begins each block
  const void* root_stack = nullptr;
  std::size_t root_stack_bytes = 0;
  unsigned count = 0, live = 0, at_barrier = 0;
  unsigned arrived[kMostThreads / kWarp] = {};  // of each warp: the lanes that wait in a collective
  Thread threads[kMostThreads] = {};
  // Of blocks that have ended, where memory is not reused.
  std::vector<void*> ended_fibers, free_fibers;
  std::vector<unsigned char*> ended_stacks;

  std::minstd_rand* drawn() { return launch->seed ? &random : nullptr; }
};
thread_local std::unique_ptr<Runner> owner;
thread_local Runner* runner = nullptr;

char block_begin, grid_end;  // edges for ThreadSanitizer
char* barrier_edge() { return runner->shared.edges(); }
char* warp_edge(unsigned warp) { return runner->shared.edges() + 1 + warp; }

const char* name(Wait wait) {
  constexpr const char* kNames[] = {"__syncthreads", "__syncwarp", "a shuffle", "a vote", "ldmatrix", "mma"};
  return kNames[static_cast<unsigned>(wait)];
}

[[noreturn]] void report_stuck_block() {
  std::fprintf(stderr, "simt: block (%u,%u,%u) is stuck:\n", block_index.x, block_index.y, block_index.z);
  for (unsigned first = 0; first < runner->count; first += kWarp) {
    const unsigned end = std::min(first + kWarp, runner->count);
    for (unsigned i = first; i < end; ++i) {
      const Thread& thread = runner->threads[i];
      const auto waits_alike = [&thread](const Thread& other) {
        return !other.is_done && other.what == thread.what && other.mask == thread.mask;
      };
      if (thread.is_done || std::any_of(runner->threads + first, runner->threads + i, waits_alike)) continue;
      unsigned lanes = 0;
      for (unsigned j = i; j < end; ++j) lanes |= unsigned{waits_alike(runner->threads[j])} << (j - first);
      std::fprintf(stderr, "  warp %u: lanes %08x wait in %s, mask %08x\n", first / kWarp, lanes, name(thread.what),
                   thread.mask);
    }
  }
  std::abort();
}

void switch_to(Thread& next) {
  Thread& me = *current;
  current = &next;
  announce_fiber(next.tsan_fiber);
  const bool is_root = &next == &runner->root;
  leave_stack(me.is_done ? nullptr : &me.asan_fake_stack, is_root ? runner->root_stack : next.stack,
              is_root ? runner->root_stack_bytes : Stacks::kBytes);
  simt_switch(&me.stack_pointer, next.stack_pointer);
  enter_stack(me.asan_fake_stack, nullptr, nullptr);
}

// For ThreadSanitizer: what any of these threads did so far is before whatever each of them does next. All at once, in
// the name of each: one that went through its edge only when its turn comes would find there what the others did since.
template <class IsMeeting>
void order(char* edge, unsigned first, unsigned count, IsMeeting is_meeting) {
  if (kReusesMemory) return;
  for (void (*pass)(void*) : {release, acquire}) {
    for (unsigned i = first; i < first + count; ++i) {
      if (!is_meeting(runner->threads[i])) continue;
      announce_fiber(runner->threads[i].tsan_fiber);
      pass(edge);
    }
  }
  announce_fiber(current->tsan_fiber);
}

void open_barrier_if_full() {
  if (!runner->at_barrier || runner->at_barrier != runner->live) return;
  runner->at_barrier = 0;
  order(barrier_edge(), 0, runner->count,
        [](const Thread& thread) { return thread.is_waiting && thread.what == Wait::kSyncthreads; });
  for (unsigned i = 0; i < runner->count; ++i) {
    Thread& thread = runner->threads[i];
    if (!thread.is_waiting || thread.what != Wait::kSyncthreads) continue;
    thread.is_waiting = false;
    if (&thread != current) runner->turns.add(thread);
  }
}

void end_thread() {
  if (!current->copies.are_done()) fail("ends with asynchronous copies that it has not waited for");
  if (runner->launch->is_programmatic && !current->has_seen_dependency) {
    fail("ends without grid_dependency_wait, though its kernel may begin before the one ahead of it ends");
  }
  current->is_done = true;
  --runner->live;
  open_barrier_if_full();
  release(&grid_end);
}

void entry();

void prepare(Thread& thread) {
  if (thread.stack) return;
  thread.stack = runner->stacks.take();
  thread.stack_pointer = fresh_stack_pointer(Stacks::top(thread.stack), &entry);
}

Thread& next_thread() {
  Thread* next = runner->turns.next(runner->drawn());
  if (!next && runner->live) report_stuck_block();
  return next ? *next : runner->root;
}

// The life of a fiber: one thread after the other, as long as the next one has not begun elsewhere.
void entry() {
  const bool is_first = !runner->root_stack;  // which comes from the root
  enter_stack(nullptr, is_first ? &runner->root_stack : nullptr, is_first ? &runner->root_stack_bytes : nullptr);
  for (;;) {
    acquire(&block_begin);
    runner->launch->kernel(runner->launch->arguments);
    end_thread();
    Thread& next = next_thread();
    if (kReusesMemory) {
      if (&next != &runner->root && !next.stack) {
        next.stack = current->stack;
        current = &next;
        continue;
      }
      runner->stacks.give_back(current->stack);
    }
    if (&next != &runner->root) prepare(next);
    switch_to(next);
  }
}

// Waits until another thread adds this one to the turns.
void sleep() {
  Thread& next = next_thread();
  prepare(next);
  switch_to(next);
}

void* take_fiber() {
  if (runner->free_fibers.empty()) return new_fiber();
  void* fiber = runner->free_fibers.back();
  runner->free_fibers.pop_back();
  return fiber;
}

void begin_threads() {
  const Extent& block = runner->launch->block;
  for (unsigned i = 0; i < runner->count; ++i) {
    Thread& thread = runner->threads[i];
    thread.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
    thread.id = i;
    thread.stack = nullptr;
    thread.is_done = thread.is_waiting = thread.has_seen_dependency = false;
    thread.tsan_fiber = take_fiber();
    if (!kReusesMemory) prepare(thread);  // here, so that no fiber is seen to touch the heap
    runner->turns.add(thread);
  }
}

// Ends what ThreadSanitizer could still tell apart: all threads so far are ordered before all that follow.
void forget_ended_blocks() {
  acquire(&grid_end);
  runner->free_fibers.insert(runner->free_fibers.end(), runner->ended_fibers.begin(), runner->ended_fibers.end());
  for (unsigned char* stack : runner->ended_stacks) runner->stacks.give_back(stack);
  runner->shared.take_back();
  runner->ended_fibers.clear();
  runner->ended_stacks.clear();
}

void run_block() {
  constexpr std::size_t kMostFibers = 2048;  // that ThreadSanitizer tells apart at a time; it has a few thousand
  const Launch& launch = *runner->launch;
  runner->live = runner->count;
  runner->at_barrier = 0;
  std::fill(std::begin(runner->arrived), std::end(runner->arrived), 0u);
  runner->turns.reset();
  runner->shared.begin(launch.shared_bytes, launch.shared_limit);
  begin_threads();
  release(&block_begin);
  Thread& first = next_thread();
  prepare(first);
  current = &runner->root;
  switch_to(first);
  if (kReusesMemory) return;
  for (unsigned i = 0; i < runner->count; ++i) {
    runner->ended_fibers.push_back(runner->threads[i].tsan_fiber);
    runner->ended_stacks.push_back(runner->threads[i].stack);
  }
  runner->shared.lay_aside();
  if (runner->ended_fibers.size() + runner->count > kMostFibers) forget_ended_blocks();
}

}  // namespace

void fail(const char* what) {
  std::fprintf(stderr, "simt: block (%u,%u,%u) thread %u: %s\n", block_index.x, block_index.y, block_index.z,
               current->id, what);
  std::abort();
}

unsigned char* dynamic_shared() { return runner->shared.dynamic(); }
void* static_shared(const void* tag, std::size_t bytes) { return runner->shared.variable(tag, bytes); }
bool is_shared(const void* at) { return runner->shared.holds(at); }

void grid_dependency_passed() { current->has_seen_dependency = true; }

void block_wait() {
  Thread& me = *current;
  me.what = Wait::kSyncthreads, me.mask = ~0u, me.is_waiting = true;
  ++runner->at_barrier;
  open_barrier_if_full();
  if (me.is_waiting) sleep();
}

void warp_wait(unsigned mask, Wait what, void* place, Finish finish) {
  Thread& me = *current;
  const unsigned warp = me.id / kWarp, bit = 1u << lane();
  Thread* lanes = &runner->threads[warp * kWarp];
  if (!(mask & bit)) fail("the calling lane is not in its own mask");
  me.what = what, me.mask = mask, me.place = place, me.is_waiting = true;
  unsigned& arrived = runner->arrived[warp];
  arrived |= bit;
  bool all_here = (arrived & mask) == mask;
  for (unsigned i = 0; all_here && i < kWarp; ++i) {
    if (mask >> i & 1) all_here = lanes[i].what == what && lanes[i].mask == mask;
  }
  if (all_here) {
    arrived &= ~mask;
    if (what == Wait::kSyncwarp) {
      order(warp_edge(warp), warp * kWarp, kWarp, [mask](const Thread& each) { return mask >> each.id % kWarp & 1; });
    }
    void* places[kWarp] = {};
    for (unsigned i = 0; i < kWarp; ++i) {
      if (mask >> i & 1) places[i] = lanes[i].place, lanes[i].is_waiting = false;
    }
    if (finish) finish(places, mask);
    for (unsigned i = 0; i < kWarp; ++i) {
      if ((mask & ~bit) >> i & 1) runner->turns.add(lanes[i]);
    }
  } else {
    sleep();
  }
}

void run(const Launch& launch) {
  if (!owner) owner = std::make_unique<Runner>();
  runner = owner.get();
  runner->launch = &launch;
  runner->random.seed(launch.seed + 1);
  runner->count = launch.block.x * launch.block.y * launch.block.z;
  runner->root.tsan_fiber = this_fiber();
  block_extent = launch.block, grid_extent = launch.grid;
  std::vector<unsigned> order(static_cast<std::size_t>(launch.grid.x) * launch.grid.y * launch.grid.z);
  std::iota(order.begin(), order.end(), 0u);
  if (launch.seed) std::shuffle(order.begin(), order.end(), runner->random);
  for (const unsigned i : order) {
    block_index = {i % launch.grid.x, i / launch.grid.x % launch.grid.y, i / launch.grid.x / launch.grid.y};
    run_block();
  }
  if (!kReusesMemory) forget_ended_blocks();
  runner->launch = nullptr;
}

}  // namespace simt
