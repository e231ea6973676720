// What a model takes of a device: shapes in, bytes out. Nothing is allocated and no file is read.
#pragma once

#include <cstddef>
#include <cstdint>

#include "backend/shape.h"
#include "tensor/tensor.h"

namespace qwen35 {

// A weight as Backend::pack takes it.
struct MatrixShape {
  DType dtype;
  std::size_t rows;
  std::size_t cols;
  std::size_t groups;
};

// What the memory is to be enough for: one sequence that fills its context, evaluated `rows` tokens at a time.
struct Workload {
  std::size_t context_tokens;
  KvFormat kv;
  std::size_t rows;
  std::uint32_t uncertain;  // rows of a pass that may be taken back
  unsigned threads;         // of the host; 0: as many as this process may use
};

// Bytes on the device, beside the weights and the activations of a pass.
struct Footprint {
  std::size_t kv = 0;             // keys and values of all positions, in whole pages
  std::size_t kv_token = 0;       // of one more position of a long context
  std::size_t draft_kv = 0;       // as kv, of the block that drafts (ModelShape::drafts)
  std::size_t state = 0;          // recurrent state of the sequence
  std::size_t snapshot = 0;       // the most that a snapshot holds beside the pages it shares with the sequence
  std::size_t snapshot_host = 0;  // and in the host's memory, where that is another (allocate_saved)
  std::size_t work = 0;           // the most that operations keep from call to call
  std::size_t work_host = 0;      // and in the host's memory, where that is another: what is on its way
  std::size_t unused = 0;         // ends of blocks that are allocated for weights and buffers
  std::size_t program = 0;        // what the device's driver and its kernels take there
};

}  // namespace qwen35
