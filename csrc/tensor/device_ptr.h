// The address of a T in a device's memory. The host passes addresses on, compares them and counts from them, and cannot
// read what lies there: only a device's own code turns an address into what its kernels take.
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace qwen35 {

template <class T>
class DevicePtr {
 public:
  constexpr DevicePtr() noexcept = default;
  constexpr DevicePtr(std::nullptr_t) noexcept {}
  constexpr explicit DevicePtr(std::uintptr_t address) noexcept : address_(address) {}
  // From T to const T.
  template <class U>
    requires std::is_convertible_v<U (*)[], T (*)[]>
  constexpr DevicePtr(DevicePtr<U> other) noexcept : address_(other.address()) {}

  constexpr std::uintptr_t address() const noexcept { return address_; }
  constexpr explicit operator bool() const noexcept { return address_ != 0; }
  template <class U>
  constexpr DevicePtr<U> as() const noexcept {
    return DevicePtr<U>(address_);
  }

  friend constexpr DevicePtr operator+(DevicePtr from, std::size_t count) noexcept {
    return DevicePtr(from.address_ + count * sizeof(T));
  }
  friend constexpr auto operator<=>(DevicePtr, DevicePtr) noexcept = default;

 private:
  std::uintptr_t address_ = 0;
};

}  // namespace qwen35
