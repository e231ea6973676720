// Pieces of memory of one device under numbers, each with its owner. Any thread may add and remove. An address is never
// followed here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"

namespace qwen35 {

template <class Id, class Owner>
class Numbered {
 public:
  struct Place {
    Owner owner{};
    std::byte* data = nullptr;
  };

  Id add(const Owner& owner, std::shared_ptr<std::byte> memory) {
    const std::scoped_lock lock(mutex_);
    if (unused_.empty()) {
      entries_.emplace_back();
      unused_.reserve(entries_.capacity());  // so that remove() cannot fail
      unused_.push_back(static_cast<std::uint32_t>(entries_.size() - 1));
    }
    const std::uint32_t number = unused_.back();
    unused_.pop_back();
    entries_[number] = {owner, std::move(memory)};
    return Id{number};
  }

  void remove(Id id) noexcept {
    const std::scoped_lock lock(mutex_);
    const auto number = static_cast<std::uint32_t>(id);
    entries_[number] = {};
    unused_.push_back(number);
  }

  // What lay there is let go of.
  void replace(Id id, const Owner& owner, std::shared_ptr<std::byte> memory) noexcept {
    const std::scoped_lock lock(mutex_);
    entries_[static_cast<std::uint32_t>(id)] = {owner, std::move(memory)};
  }

  // Throws InputError for a number that is not in use.
  Place at(Id id) const {
    Place place;
    find({&id, 1}, {&place, 1});
    return place;
  }

  // Sets places[i] to the place of ids[i], empty for `none`.
  void find(std::span<const Id> ids, std::span<Place> places, Id none = Id{0xffffffffU}) const {
    const std::scoped_lock lock(mutex_);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const auto number = static_cast<std::uint32_t>(ids[i]);
      if (ids[i] == none) {
        places[i] = {};
      } else if (number < entries_.size() && entries_[number].memory != nullptr) {
        places[i] = {entries_[number].owner, entries_[number].memory.get()};
      } else {
        throw InputError("number " + std::to_string(number) + " is not in use in this device's pools");
      }
    }
  }

 private:
  struct Entry {
    Owner owner{};
    std::shared_ptr<std::byte> memory;
  };

  mutable std::mutex mutex_;
  std::vector<Entry> entries_;
  std::vector<std::uint32_t> unused_;
};

}  // namespace qwen35
