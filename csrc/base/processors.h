// How many processors this process may keep busy.
#pragma once

#include <string>
#include <vector>

namespace qwen35 {

// The affinity mask and the cgroup quota both count. Where the machine has fast cores and slow ones, the fast ones:
// a loop is as slow as its slowest thread's last piece, and slow cores share the caches and the memory of the fast.
unsigned usable_threads() noexcept;

// How many of `processors` are about as fast as the fastest of them, as Linux tells below `folder`
// (/sys/devices/system/cpu): cpu<n>/cpu_capacity where it is there, else cpu<n>/cpufreq/cpuinfo_max_freq. All of them
// when it does not tell of each.
unsigned performance_processors(const std::string& folder, const std::vector<unsigned>& processors);

}  // namespace qwen35
