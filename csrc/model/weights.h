// Every tensor of a model under the role it plays, packed for a device. Binding checks the whole file first: each name,
// shape and type, nothing missing and nothing left over.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "backend/backend.h"
#include "gguf/gguf.h"
#include "model/config.h"
#include "model/draft_vocabulary.h"
#include "model/tensor_source.h"

namespace qwen35 {

struct DeltaNetWeights {
  const Weight* qkv;               // [C, D]
  const Weight* z;                 // [Hv Dv, D]
  const Weight* a;                 // [Hv, D], decay
  const Weight* b;                 // [Hv, D], beta
  DevicePtr<const float> conv;     // [C, conv_width]
  DevicePtr<const float> ssm_a;    // [Hv], -exp(A_log)
  DevicePtr<const float> dt_bias;  // [Hv]
  DevicePtr<const float> norm;     // [Dv]
  const Weight* out;               // [D, Hv Dv]
};

struct AttentionWeights {
  const Weight* q_gate;           // [H 2A, D], query and gate alternate head by head
  const Weight* k;                // [G A, D]
  const Weight* v;                // [G A, D]
  DevicePtr<const float> q_norm;  // [A]
  DevicePtr<const float> k_norm;  // [A]
  const Weight* out;              // [D, H A]
};

struct DenseWeights {
  const Weight* gate;  // [F, D]
  const Weight* up;    // [F, D]
  const Weight* down;  // [D, F]
};

struct MoeWeights {
  const Weight* router;       // [E, D]
  const Weight* shared_gate;  // [1, D]
  ExpertWeights experts;
};

struct LayerWeights {
  std::uint32_t index;  // among the layers whose mixer is of the same kind; blocks that predict follow the model's own
  DevicePtr<const float> mixer_norm;  // [D]
  std::variant<DeltaNetWeights, AttentionWeights> mixer;
  DevicePtr<const float> feed_forward_norm;  // [D]
  std::variant<DenseWeights, MoeWeights> feed_forward;
};

// Multi-token prediction: from the hidden state at p and token p + 1, predicts token p + 2 (docs/architecture.md 5).
struct MtpWeights {
  DevicePtr<const float> embedding_norm;  // [D]
  DevicePtr<const float> hidden_norm;     // [D]
  const Weight* join;                     // [D, 2D] over [embedding; hidden]
  LayerWeights layer;
  DevicePtr<const float> norm;  // [D]
  const Weight* embedding;      // [V, D], the model's own unless the file has another
  const Weight* head;           // [V, D], likewise
  DraftVocabulary drafted;
  const Weight* frequent_head;  // the rows of `drafted` in it: the first ones, which may be all,
  const Weight* last_head;      // and the last ones, null where these are all
};

// A tensor of the file as the device holds it. For expert tensors, rows is summed over all experts.
struct PackedTensor {
  std::string name;
  std::size_t rows;
  std::size_t cols;
  std::size_t bytes;
  const Weight* matrix;  // null for a vector
};

// Consecutive layers of a model.
struct LayerRange {
  std::size_t first;
  std::size_t count;

  std::size_t end() const noexcept { return first + count; }
};

struct Weights {
  const Weight* embedding = nullptr;  // [V, D]
  std::vector<LayerWeights> layers;
  DevicePtr<const float> norm;   // [D]
  const Weight* head = nullptr;  // [V, D]; the embedding when tied
  std::vector<MtpWeights> mtp;
  bool is_tied = false;
  std::size_t bytes = 0;  // of all in the directory
  std::vector<PackedTensor> directory;

  std::vector<std::unique_ptr<Weight>> matrices;  // own what the pointers above point to
  std::vector<std::unique_ptr<Buffer>> vectors;
};

// The directory is a model's, of types that can be decoded (dialect/model_file.h). Throws FormatError naming the
// tensors that are missing, unexpected, or of another shape or type than the config asks.
// `drafted`: what the block that drafts chooses from; nothing (V = 0) where it is not to draft, and is not loaded.
// `pause` is called before each tensor and may throw. With a `part`, those layers alone are loaded, the embedding with
// the first of the model, and no head.
Weights load_weights(const GgufDirectory& file, const Config& config, Backend& backend, TensorSource& source,
                     DraftVocabulary drafted, const std::function<void()>& pause,
                     const std::optional<LayerRange>& part = std::nullopt);

}  // namespace qwen35
