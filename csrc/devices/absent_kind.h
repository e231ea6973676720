// A kind of device that this build does not have: its folder's absent.cpp.
#pragma once

#include <memory>
#include <string>

#include "devices/device_kind.h"

namespace qwen35 {

class AbsentKind final : public DeviceKind {
 public:
  AbsentKind(const char* name, const char* absence) : name_(name), absence_(absence) {}

  const char* name() const noexcept override { return name_; }
  std::string absence() const override { return absence_; }
  std::unique_ptr<Backend> open(unsigned) const override { throw unavailable(*this); }
  DeviceMemory memory() const override { throw unavailable(*this); }
  bool uses_host_memory() const noexcept override { return false; }
  std::size_t weight_bytes(const MatrixShape&) const override { throw unavailable(*this); }
  Footprint footprint(const ModelShape&, std::span<const MatrixShape>, const Workload&) const override {
    throw unavailable(*this);
  }

 private:
  const char* name_;
  const char* absence_;
};

}  // namespace qwen35
