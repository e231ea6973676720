// The one place where an address of this device becomes a pointer: its memory is the host's.
#pragma once

#include <cstddef>

#include "tensor/device_ptr.h"
#include "tensor/tensor.h"

namespace qwen35::cpu {

template <class T>
T* host(DevicePtr<T> address) noexcept {
  return reinterpret_cast<T*>(address.address());
}

template <class T>
DevicePtr<T> device(T* pointer) noexcept {
  return DevicePtr<T>(reinterpret_cast<std::uintptr_t>(pointer));
}

inline float* row(Tensor x, std::size_t i) noexcept { return host(x.data) + i * x.stride; }

}  // namespace qwen35::cpu
