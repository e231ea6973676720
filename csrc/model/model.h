// A loaded model: immutable, shared by sequences and threads, which take turns on its device.
#pragma once

#include <array>
#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "backend/backend.h"
#include "dialect/model_file.h"
#include "model/activations.h"
#include "model/config.h"
#include "model/rope.h"
#include "model/tensor_source.h"
#include "model/ticket_lock.h"
#include "model/weights.h"

namespace qwen35 {

// Throws InputError beyond kMostUncertain.
std::uint32_t check_drafts(std::size_t drafts);

// What a model is loaded for: the most tokens of a pass that a sequence may take back, and how many of the most
// frequent tokens its block drafts from, a multiple of 32.
struct Drafting {
  std::size_t most = 0;
  std::size_t tokens = kDraftTokens;
};

class Model {
 public:
  // context_tokens 0: the file's own. `pass_rows`: tokens of a pass, unless a caller asks for another number. `source`
  // gives the tensors' bytes where the file is a header alone. Nothing of the source is needed afterwards, and of the
  // file at most the embeddings, which a device may leave there. Throws FormatError when the file is not a complete
  // model of the family or changes meanwhile, InputError when the context cannot be had, and for more drafts than
  // kMostUncertain. `pause` is called between tensors; what it throws ends the load. With a `part` only LayerPass can
  // run the model.
  Model(const ModelFile& file, std::unique_ptr<Backend> backend, std::size_t context_tokens, Drafting drafting,
        std::size_t pass_rows, TensorSource* source, const std::function<void()>& pause,
        const std::optional<LayerRange>& part = std::nullopt);

  bool was_mapped() const noexcept { return was_mapped_; }  // no: the system cannot map the file, and it was read
  const Config& config() const noexcept { return config_; }
  const Weights& weights() const noexcept { return weights_; }
  const RopeTable& rope_table() const noexcept { return rope_table_; }
  Rope rope() const noexcept;  // the same on the device
  std::size_t context_tokens() const noexcept { return context_tokens_; }
  std::size_t drafts() const noexcept { return drafts_; }
  std::size_t pass_rows() const noexcept { return pass_rows_; }
  // The block that drafts; null where the file has none, or no drafts are wanted.
  const MtpWeights* draft_block() const noexcept {
    return drafts_ > 0 && !weights_.mtp.empty() ? &weights_.mtp.front() : nullptr;
  }
  const char* device() const noexcept { return backend_->name(); }
  std::uint32_t state_layout() const noexcept { return backend_->state_layout(); }

  // The device and its scratch, for one caller at a time.
  class DeviceLock {
   public:
    Backend& ops() const noexcept { return *model_.backend_; }
    // All memory of a pass over `step`: its activations, valid until the next call or the end of the turn, and what the
    // device needs of its own.
    Activations reserve(const Step& step, std::size_t logit_rows);
    // Memory for `rows` rows of D values, valid like the activations.
    DevicePtr<float> input_rows(std::size_t rows);
    // Pools of the model's shape, made when first asked for; they live as long as the model. Throws InputError when the
    // device cannot keep this model's keys and values in the format.
    KvPool& kv_pool(KvFormat format);
    KvPool& draft_pool(KvFormat format);  // of the block that drafts: one layer, none without it
    StatePool& state_pool();
    std::size_t saved_page_bytes() const;  // KvPool::saved_bytes of them all

   private:
    friend class Model;
    using KvPools = std::array<std::unique_ptr<KvPool>, kKvFormats>;  // by format

    explicit DeviceLock(Model& model) : model_(model), lock_(model.queue_) {}
    KvPool& kv_pool(KvPools& pools, KvFormat format, std::size_t layers);

    Model& model_;
    std::unique_lock<TicketLock> lock_;
  };
  DeviceLock lock_device() { return DeviceLock(*this); }

 private:
  Weights load(const ModelFile& file, TensorSource* source, const std::function<void()>& pause,
               const std::optional<LayerRange>& part);
  std::uint32_t attention_layers() const noexcept;  // that are loaded

  std::unique_ptr<Backend> backend_;
  Config config_;
  RopeTable rope_table_;
  std::size_t context_tokens_;
  std::uint32_t drafts_;
  DraftVocabulary drafted_;
  std::size_t pass_rows_;
  bool was_mapped_ = true;
  Weights weights_;
  std::unique_ptr<Buffer> inv_freq_;
  DeviceLock::KvPools kv_pools_, draft_pools_;
  std::unique_ptr<StatePool> state_pool_;
  std::unique_ptr<Scratch> scratch_;
  std::unique_ptr<Buffer> input_rows_;
  TicketLock queue_;
};

}  // namespace qwen35
