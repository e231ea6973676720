// Read-only file mapping on POSIX and Windows.
#include "base/mapped_file.h"

#include <cstdint>
#include <limits>
#include <system_error>

#include "base/error.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace qwen35 {
namespace {

[[noreturn]] void refuse(const std::filesystem::path& path, int code, const char* what) {
  throw std::filesystem::filesystem_error(what, path, std::error_code(code, std::system_category()));
}

// Opening a FIFO or a device can block for ever, so the kind of file is asked before it is opened.
void require_regular(const std::filesystem::path& path) {
  const auto status = std::filesystem::status(path);
  if (!std::filesystem::exists(status)) {
    throw std::filesystem::filesystem_error("cannot open", path,
                                            std::make_error_code(std::errc::no_such_file_or_directory));
  }
  if (!std::filesystem::is_regular_file(status)) {
    throw FormatError(path.string() + ": not a regular file; a GGUF file is expected");
  }
}

void require_size(const std::filesystem::path& path, std::uint64_t size) {
  if (size == 0) throw FormatError(path.string() + ": the file is empty");
  if (size > std::numeric_limits<std::size_t>::max()) {
    throw FormatError(path.string() + ": larger than this machine can address");
  }
}

}  // namespace

#ifdef _WIN32

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  require_regular(path);
  const HANDLE file = CreateFileW(path.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                                  OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) refuse(path, static_cast<int>(GetLastError()), "cannot open");
  LARGE_INTEGER size{};
  const bool sized = GetFileSizeEx(file, &size) != 0;
  const DWORD size_error = GetLastError();
  const HANDLE mapping =
      sized && size.QuadPart > 0 ? CreateFileMappingW(file, nullptr, PAGE_READONLY, 0, 0, nullptr) : nullptr;
  const DWORD mapping_error = GetLastError();
  CloseHandle(file);
  if (!sized) refuse(path, static_cast<int>(size_error), "cannot read the size of");
  require_size(path, static_cast<std::uint64_t>(size.QuadPart));
  if (mapping == nullptr) refuse(path, static_cast<int>(mapping_error), "cannot map");
  const void* data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
  const DWORD view_error = GetLastError();
  CloseHandle(mapping);
  if (data == nullptr) refuse(path, static_cast<int>(view_error), "cannot map");
  data_ = static_cast<const std::byte*>(data);
  size_ = static_cast<std::size_t>(size.QuadPart);
}

MappedFile::~MappedFile() { UnmapViewOfFile(data_); }

// Unlocking pages that are not locked takes them out of the working set.
void MappedFile::release(const std::byte* data, std::size_t bytes) const noexcept {
  if (bytes != 0) VirtualUnlock(const_cast<std::byte*>(data), bytes);
}

#else

MappedFile::MappedFile(const std::filesystem::path& path) : path_(path) {
  require_regular(path);
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) refuse(path, errno, "cannot open");
  struct stat status{};
  const bool known = ::fstat(file, &status) == 0;
  const int stat_error = errno;
  const bool mappable = known && S_ISREG(status.st_mode) && status.st_size > 0 &&
                        static_cast<std::uint64_t>(status.st_size) <= std::numeric_limits<std::size_t>::max();
  void* data = mappable ? ::mmap(nullptr, static_cast<std::size_t>(status.st_size), PROT_READ, MAP_PRIVATE, file, 0)
                        : MAP_FAILED;
  const int map_error = errno;
  ::close(file);
  if (!known) refuse(path, stat_error, "cannot read the size of");
  if (!S_ISREG(status.st_mode)) throw FormatError(path.string() + ": not a regular file; a GGUF file is expected");
  require_size(path, static_cast<std::uint64_t>(status.st_size));
  if (data == MAP_FAILED) refuse(path, map_error, "cannot map");
  data_ = static_cast<const std::byte*>(data);
  size_ = static_cast<std::size_t>(status.st_size);
}

MappedFile::~MappedFile() { ::munmap(const_cast<std::byte*>(data_), size_); }

void MappedFile::release(const std::byte* data, std::size_t bytes) const noexcept {
  const long page_size = ::sysconf(_SC_PAGESIZE);
  if (page_size <= 0 || bytes == 0) return;
  const auto page = static_cast<std::uintptr_t>(page_size);
  const auto first = (reinterpret_cast<std::uintptr_t>(data) + page - 1) / page * page;
  const auto last = (reinterpret_cast<std::uintptr_t>(data) + bytes) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

#endif

}  // namespace qwen35
