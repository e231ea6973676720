// The memory that attention keeps from call to call, and how a call is cut into blocks of threads.
#pragma once

#include <cstddef>
#include <span>

#include "backend/shape.h"
#include "backend/step.h"
#include "devices/cuda/kernel_args.h"
#include "devices/cuda/work_memory.h"

namespace qwen35::cuda {

// Grid and sizes of one call of attend. Nothing here changes a bit of its results. They depend on the context only
// through the power of two of the spans, so that a graph is replayed while a text grows.
struct AttendPlan {
  unsigned tiles = 1;       // of eight queries
  unsigned block_rows = 1;  // rows that a block of threads takes
  std::size_t tasks = 0;
  std::size_t spans = 1;   // side by side; 1: a block of threads takes all
  bool has_parts = false;  // partial softmaxes wait in memory

  AttendPlan(const AttentionShape& shape, std::span<const StepSegment> segments, unsigned multiprocessors) noexcept;

  std::size_t part_floats() const noexcept { return has_parts ? tasks * spans * attend_part_floats(tiles) : 0; }
};

// Of a call: partial softmaxes and counters.
std::size_t attention_work_bytes(const AttendPlan& plan) noexcept;

class AttentionWork {
 public:
  // Makes room for a call, so that nothing is allocated later.
  void reserve(Context& context, Memory& memory, const AttendPlan& plan);
  std::size_t bytes() const noexcept { return parts_.bytes() + arrived_.bytes(); }

  float* parts() const noexcept { return parts_.get<float>(); }
  unsigned* arrived() const noexcept { return arrived_.get<unsigned>(); }

 private:
  WorkMemory parts_;
  WorkMemory arrived_;
};

}  // namespace qwen35::cuda
