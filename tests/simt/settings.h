// What tests ask of the device, by key: from the environment (SIMT_MEMORY) when the library is loaded, and by
// simt_set("memory", value) at any time.
#pragma once

namespace simt {

// NAME(key, value unless set).
//   memory           bytes of the device
//   devices          how many there are; all are the first
//   compute          capability: 80, 86, 89, 90, 100, 120
//   multiprocessors  of the device
//   cache            bytes of the second-level cache
//   driver_version   1000 major + 10 minor of the CUDA that the driver knows
//   init_result      what cuInit answers
//   retain_result    what cuDevicePrimaryCtxRetain answers
//   load_result      what cuModuleLoadData answers
//   fail_allocation  n: the n-th allocation of device memory from now on fails, once; 0: none
//   fail_pinned      the same of the host's
//   forget_wait      n: the n-th wait of a stream for an event from now on does not happen, once, as if a program
//                    had left it out; 0: none
//   lost_after       n: after so many launches the device is lost, and every call answers 719; -1: never
//   lost_at          n: the n-th allocation of device memory from now on finds the device lost; 0: none
//   revives          1: a lost device is there again when its last context was released
//   idle_after       n: after so many launches kernels do nothing, as on a card that computes wrongly; -1: never
//   seed             of the order of blocks and turns, and of streams; 0: ascending, and a stream as late as it can
//   deferred         1: work waits until somebody waits for it; 0: it is done at once
#define SIMT_SETTINGS(NAME)   \
  NAME(memory, 2L << 30)      \
  NAME(devices, 1)            \
  NAME(compute, 80)           \
  NAME(multiprocessors, 4)    \
  NAME(cache, 1L << 20)       \
  NAME(driver_version, 13000) \
  NAME(init_result, 0)        \
  NAME(retain_result, 0)      \
  NAME(load_result, 0)        \
  NAME(fail_allocation, 0)    \
  NAME(fail_pinned, 0)        \
  NAME(forget_wait, 0)        \
  NAME(lost_after, -1)        \
  NAME(lost_at, 0)            \
  NAME(revives, 0)            \
  NAME(idle_after, -1)        \
  NAME(seed, 0)               \
  NAME(deferred, 1)

struct Settings {
#define SIMT_SETTING(key, value) long key = value;
  SIMT_SETTINGS(SIMT_SETTING)
#undef SIMT_SETTING

  long* find(const char* key);  // null where there is none
};

Settings& settings();

// Counts down to what a test asks for: true for the n-th of a kind, once.
inline bool comes_to_pass(long& countdown) { return countdown > 0 && --countdown == 0; }

}  // namespace simt
