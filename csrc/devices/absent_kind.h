// A kind of device that this build does not have: its folder's absent.cpp.
#pragma once

#include <memory>
#include <string>

#include "devices/open.h"

namespace qwen35 {

class AbsentKind final : public DeviceKind {
 public:
  AbsentKind(const char* name, const char* absence) : name_(name), absence_(absence) {}

  const char* name() const noexcept override { return name_; }
  unsigned count() const noexcept override { return 0; }
  std::string absence(unsigned) const override { return absence_; }
  std::unique_ptr<Backend> open(unsigned, unsigned) const override { throw unavailable(); }
  DeviceMemory memory(unsigned) const override { throw unavailable(); }
  bool uses_host_memory() const noexcept override { return false; }
  PassRows pass_rows() const override { throw unavailable(); }
  std::size_t weight_bytes(const MatrixShape&) const override { throw unavailable(); }
  Footprint footprint(const ModelShape&, std::span<const MatrixShape>, const Workload&) const override {
    throw unavailable();
  }

 private:
  Unavailable unavailable() const { return device_unavailable(name_, absence_); }

  const char* name_;
  const char* absence_;
};

}  // namespace qwen35
