#include "base/system_memory.h"

#if defined(__linux__)
#include <fstream>
#include <string>
#elif defined(__APPLE__)
#include <sys/sysctl.h>

#include <cstdint>
#elif defined(_WIN32)
#include <windows.h>
#endif

namespace qwen35 {

SystemMemory system_memory() {
  SystemMemory memory;
#if defined(__linux__)
  std::ifstream file("/proc/meminfo");
  for (std::string name, rest; file >> name; std::getline(file, rest)) {
    std::size_t kibibytes = 0;
    if (name != "MemTotal:" && name != "MemAvailable:") continue;
    file >> kibibytes;
    (name == "MemTotal:" ? memory.total : memory.free) = kibibytes << 10;
  }
#elif defined(__APPLE__)
  std::uint64_t bytes = 0;
  std::size_t size = sizeof bytes;
  if (sysctlbyname("hw.memsize", &bytes, &size, nullptr, 0) == 0) memory.total = static_cast<std::size_t>(bytes);
  memory.free = memory.total / 2;  // free pages are few by design: caches and compression take the rest
#elif defined(_WIN32)
  MEMORYSTATUSEX status{};
  status.dwLength = sizeof status;
  if (GlobalMemoryStatusEx(&status) != 0) {
    memory = {static_cast<std::size_t>(status.ullAvailPhys), static_cast<std::size_t>(status.ullTotalPhys)};
  }
#endif
  return memory;
}

}  // namespace qwen35
