// What one pass over the model works in: the activations of its rows.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

#include "backend/backend.h"
#include "model/config.h"

namespace qwen35 {

// Views of T rows. Those of the mixers, of the feed-forward block, of the head and of the block that drafts share
// memory: none outlives its turn. Only `last` outlives the draft block's where there is one.
struct Activations {
  Tensor x;  // [T, D], the residual stream
  Tensor h;  // [T, D], normed

  Tensor qkv;  // [T, C]
  Tensor z;    // [T, Hv Dv]
  Tensor a;    // [T, Hv]
  Tensor b;    // [T, Hv]
  Tensor mix;  // [T, Hv Dv]

  Tensor q_gate;    // [T, H 2A]
  Tensor k;         // [T, G A]
  Tensor v;         // [T, G A]
  Tensor attended;  // [T, H A]

  Tensor act;         // [T, F], with experts the shared one's
  Tensor router;      // [T, E]
  Tensor expert_act;  // [T K, F]
  Routes routes;

  Tensor joined;  // [T, 2D], embedding and hidden state for the block that drafts

  Tensor last;    // [T, D], normed rows that want logits
  Tensor logits;  // [logit rows, V]
};

// What a Scratch of so many rows allocates.
std::size_t activation_bytes(const ModelShape& model, std::size_t rows, std::size_t logit_rows, bool drafts);

// Allocated once for the largest pass.
class Scratch {
 public:
  Scratch(Backend& backend, const Config& config, std::size_t rows, std::size_t logit_rows, bool drafts);

  std::size_t rows() const noexcept { return rows_; }
  std::size_t logit_rows() const noexcept { return whole_.logits.rows; }
  Activations first_rows(std::size_t n) const noexcept;

 private:
  std::size_t rows_;
  std::size_t top_k_;
  std::unique_ptr<Buffer> memory_;
  Activations whole_{};
};

}  // namespace qwen35
