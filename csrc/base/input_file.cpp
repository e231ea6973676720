#include "base/input_file.h"

#include <algorithm>
#include <limits>
#include <string>
#include <system_error>

#include "base/error.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#endif

namespace qwen35 {
namespace {

constexpr std::size_t kMostAtOnce = std::size_t{1} << 30;  // some systems refuse more

[[noreturn]] void refuse(const std::filesystem::path& path, int code, const char* what) {
  throw std::filesystem::filesystem_error(what, path, std::error_code(code, std::system_category()));
}

[[noreturn]] void refuse_kind(const std::filesystem::path& path) {
  throw FormatError(path.string() + ": not a regular file; a GGUF file is expected");
}

// Opening a FIFO or a device can block for ever, so the kind of file is asked before it is opened.
void require_regular(const std::filesystem::path& path) {
  const auto status = std::filesystem::status(path);
  if (!std::filesystem::exists(status)) {
    throw std::filesystem::filesystem_error("cannot open", path,
                                            std::make_error_code(std::errc::no_such_file_or_directory));
  }
  if (!std::filesystem::is_regular_file(status)) refuse_kind(path);
}

InputFile::Handle open(const std::filesystem::path& path) {
  require_regular(path);
#ifdef _WIN32
  const HANDLE file = CreateFileW(path.c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                                  OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr);
  if (file == INVALID_HANDLE_VALUE) refuse(path, static_cast<int>(GetLastError()), "cannot open");
#else
  const int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (file < 0) refuse(path, errno, "cannot open");
#endif
  return file;
}

void close(InputFile::Handle file) noexcept {
#ifdef _WIN32
  CloseHandle(file);
#else
  ::close(file);
#endif
}

}  // namespace

InputFile::InputFile(const std::filesystem::path& path) : path_(path), handle_(open(path)) {
  try {
    state_ = query();
    if (state_.size == 0) {
      throw FormatError(path.string() + ": the file is empty, as a download that never began leaves it; get it again");
    }
    if (state_.size > std::numeric_limits<std::size_t>::max()) {
      throw FormatError(path.string() + ": larger than this machine can address");
    }
  } catch (...) {
    close(handle_);
    throw;
  }
}

InputFile::~InputFile() { close(handle_); }

void InputFile::read(std::uint64_t offset, std::byte* to, std::size_t bytes) const {
  for (std::size_t done = 0; done < bytes;) {
    const std::size_t got = read_some(offset + done, to + done, std::min(bytes - done, kMostAtOnce));
    if (got == 0) {
      require_unchanged();
      throw FormatError(path_.string() + ": ends at byte " + std::to_string(offset + done) + ", where " +
                        std::to_string(bytes - done) + " more are expected; the file is truncated or damaged");
    }
    done += got;
  }
}

void InputFile::require_unchanged() const {
  if (query() == state_) return;
  throw FormatError(path_.string() +
                    ": the file was changed while it was in use; wait until it is written whole, then start again");
}

#ifdef _WIN32

InputFile::State InputFile::query() const {
  BY_HANDLE_FILE_INFORMATION facts{};
  if (GetFileInformationByHandle(handle_, &facts) == 0) {
    refuse(path_, static_cast<int>(GetLastError()), "cannot read the size of");
  }
  const auto join = [](DWORD high, DWORD low) { return std::uint64_t{high} << 32 | low; };
  return {join(facts.nFileSizeHigh, facts.nFileSizeLow),
          static_cast<std::int64_t>(join(facts.ftLastWriteTime.dwHighDateTime, facts.ftLastWriteTime.dwLowDateTime))};
}

std::size_t InputFile::read_some(std::uint64_t offset, std::byte* to, std::size_t bytes) const {
  OVERLAPPED at{};
  at.Offset = static_cast<DWORD>(offset);
  at.OffsetHigh = static_cast<DWORD>(offset >> 32);
  DWORD got = 0;
  if (ReadFile(handle_, to, static_cast<DWORD>(bytes), &got, &at) == 0 && GetLastError() != ERROR_HANDLE_EOF) {
    refuse(path_, static_cast<int>(GetLastError()), "cannot read");
  }
  return got;
}

#else

InputFile::State InputFile::query() const {
  struct stat facts{};
  if (::fstat(handle_, &facts) != 0) refuse(path_, errno, "cannot read the size of");
  if (!S_ISREG(facts.st_mode)) refuse_kind(path_);
#ifdef __APPLE__
  const timespec& time = facts.st_mtimespec;
#else
  const timespec& time = facts.st_mtim;
#endif
  constexpr std::int64_t kNanoseconds = 1'000'000'000;
  const auto seconds = static_cast<std::uint64_t>(time.tv_sec) * kNanoseconds;  // wraps for times that are nonsense
  return {static_cast<std::uint64_t>(facts.st_size),
          static_cast<std::int64_t>(seconds + static_cast<std::uint64_t>(time.tv_nsec))};
}

std::size_t InputFile::read_some(std::uint64_t offset, std::byte* to, std::size_t bytes) const {
  ssize_t got = 0;
  do {
    got = ::pread(handle_, to, bytes, static_cast<off_t>(offset));
  } while (got < 0 && errno == EINTR);
  if (got < 0) refuse(path_, errno, "cannot read");
  return static_cast<std::size_t>(got);
}

#endif

}  // namespace qwen35
