#include "base/processors.h"

#include <algorithm>
#include <cstddef>
#include <fstream>
#include <thread>

#if defined(__linux__)
#include <sched.h>
#elif defined(__APPLE__)
#include <sys/sysctl.h>
#endif

namespace qwen35 {
namespace {

// Cores of one kind differ by the few percent of clock that the best samples, or those without stacked cache, are
// allowed (5.7 and 5.25 GHz on one processor); kinds by an eighth and more (5.5 and 4.6 GHz).
constexpr double kSameKind = 0.9;

// cpu<n>/`file` of each processor; empty unless all of them have it.
std::vector<double> read_each(const std::string& folder, const std::vector<unsigned>& processors, const char* file) {
  std::vector<double> values;
  for (const unsigned n : processors) {
    double value = 0.0;
    std::ifstream text(folder + "/cpu" + std::to_string(n) + "/" + file);
    if (!(text >> value) || !(value > 0.0)) return {};
    values.push_back(value);
  }
  return values;
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

unsigned performance_processors(const std::string& folder, const std::vector<unsigned>& processors) {
  std::vector<double> speeds = read_each(folder, processors, "cpu_capacity");
  if (speeds.empty()) speeds = read_each(folder, processors, "cpufreq/cpuinfo_max_freq");
  if (speeds.empty()) return static_cast<unsigned>(processors.size());
  const double least = kSameKind * *std::max_element(speeds.begin(), speeds.end());
  return static_cast<unsigned>(std::count_if(speeds.begin(), speeds.end(), [&](double s) { return s >= least; }));
}

unsigned usable_threads() noexcept {
  unsigned n = std::max(1U, std::thread::hardware_concurrency());
#if defined(__linux__)
  cpu_set_t mask;
  try {
    if (sched_getaffinity(0, sizeof mask, &mask) == 0 && CPU_COUNT(&mask) > 0) {
      n = static_cast<unsigned>(CPU_COUNT(&mask));
      std::vector<unsigned> processors;
      for (unsigned i = 0; i < CPU_SETSIZE; ++i) {
        if (CPU_ISSET(i, &mask)) processors.push_back(i);
      }
      n = performance_processors("/sys/devices/system/cpu", processors);
    }
    if (const unsigned quota = quota_processors()) n = std::min(n, quota);
  } catch (...) {  // out of memory while reading a limit: what is known so far has to do
  }
#elif defined(__APPLE__)
  int fast = 0;
  std::size_t bytes = sizeof fast;
  if (sysctlbyname("hw.perflevel0.logicalcpu", &fast, &bytes, nullptr, 0) == 0 && fast > 0) {
    n = std::min(n, static_cast<unsigned>(fast));
  }
#endif
  return n;
}

}  // namespace qwen35
