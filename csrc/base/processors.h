// How many processors this process may keep busy.
#pragma once

#include <string>
#include <vector>

namespace qwen35 {

// Respects the affinity mask and the cgroup quota. On a machine with fast and slow cores, counts the fast ones: a loop
// is as slow as its slowest thread's last piece, and slow cores share caches and memory with the fast ones.
unsigned usable_threads() noexcept;

// How many of `processors` are about as fast as the fastest of them, as Linux tells below `folder`
// (/sys/devices/system/cpu): cpu<n>/cpu_capacity if present, else cpu<n>/cpufreq/cpuinfo_max_freq. All of them when
// either is missing for a processor.
unsigned performance_processors(const std::string& folder, const std::vector<unsigned>& processors);

}  // namespace qwen35
