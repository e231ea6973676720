#include "base/mapping.h"

#include <cstdint>
#include <string>
#include <utility>

#include "base/error.h"
#include "base/round_up.h"

#ifdef _WIN32
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace qwen35 {
namespace {

#ifdef _WIN32

const void* map(const InputFile& file) noexcept {
  const HANDLE mapping = CreateFileMappingW(file.handle(), nullptr, PAGE_READONLY, 0, 0, nullptr);
  if (mapping == nullptr) return nullptr;
  const void* data = MapViewOfFile(mapping, FILE_MAP_READ, 0, 0, 0);
  CloseHandle(mapping);
  return data;
}

void unmap(const std::byte* data, std::size_t) noexcept { UnmapViewOfFile(data); }

// Unlocking pages that are not locked takes them out of the working set.
void drop(const std::byte* data, std::size_t bytes) noexcept { VirtualUnlock(const_cast<std::byte*>(data), bytes); }

#else

const void* map(const InputFile& file) noexcept {
  void* data = ::mmap(nullptr, static_cast<std::size_t>(file.size()), PROT_READ, MAP_PRIVATE, file.handle(), 0);
  return data == MAP_FAILED ? nullptr : data;
}

void unmap(const std::byte* data, std::size_t bytes) noexcept { ::munmap(const_cast<std::byte*>(data), bytes); }

void drop(const std::byte* data, std::size_t bytes) noexcept {
  const long page_size = ::sysconf(_SC_PAGESIZE);
  if (page_size <= 0) return;
  const auto page = static_cast<std::uintptr_t>(page_size);
  const auto first = round_up(reinterpret_cast<std::uintptr_t>(data), page);
  const auto last = (reinterpret_cast<std::uintptr_t>(data) + bytes) / page * page;
  if (first < last) ::madvise(reinterpret_cast<void*>(first), last - first, MADV_DONTNEED);
}

#endif

}  // namespace

Mapping::Mapping(std::shared_ptr<const InputFile> file)
    : file_(std::move(file)),
      data_(static_cast<const std::byte*>(map(*file_))),
      size_(data_ == nullptr ? 0 : static_cast<std::size_t>(file_->size())) {
  if (data_ != nullptr) torn_.emplace(data_, size_);
}

Mapping::~Mapping() {
  torn_.reset();
  if (data_ != nullptr) unmap(data_, size_);
}

void Mapping::release(const std::byte* data, std::size_t bytes) const noexcept {
  if (bytes != 0) drop(data, bytes);
}

void Mapping::require_intact() const {
  file_->require_unchanged();
  if (torn_ && torn_->any()) {
    throw FormatError(file_->path().string() + ": a part of the file could not be read; check the disk it lies on");
  }
}

}  // namespace qwen35
