// A sampler as Python holds it: whoever touches it holds a SamplerUse.
#pragma once

#include <pybind11/pybind11.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "sequence/sampler.h"

namespace qwen35 {

struct SharedSampler {
  explicit SharedSampler(Sampler own) : sampler(std::move(own)) {}

  Sampler sampler;
  std::atomic<bool> is_in_use = false;
};

// The right to touch a sampler; throws InputError when another call has it.
class SamplerUse {
 public:
  explicit SamplerUse(SharedSampler& shared);
  SamplerUse(SamplerUse&& other) noexcept : shared_(std::exchange(other.shared_, nullptr)) {}
  SamplerUse& operator=(SamplerUse&&) = delete;
  ~SamplerUse() {
    if (shared_ != nullptr) shared_->is_in_use.store(false);
  }

  Sampler& operator*() const noexcept { return shared_->sampler; }
  Sampler* operator->() const noexcept { return &shared_->sampler; }

 private:
  SharedSampler* shared_;
};

// None: every token. Throws InputError for what is no row of words.
std::vector<std::uint32_t> to_mask(const pybind11::object& words);

// None: no logprobs; else how many of the most likely tokens beside the sampled one. Throws InputError below 0.
std::optional<std::size_t> to_logprobs(const std::optional<pybind11::int_>& logprobs);

}  // namespace qwen35
