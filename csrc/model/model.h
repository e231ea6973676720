// A loaded model: immutable, shared by sequences and threads, which take turns on its device.
#pragma once

#include <cstddef>
#include <filesystem>
#include <memory>
#include <mutex>
#include <string>

#include "backend/backend.h"
#include "dialect/model_file.h"
#include "gguf/gguf.h"
#include "model/config.h"
#include "model/queue.h"
#include "model/rope.h"
#include "model/state.h"
#include "model/tensor_source.h"
#include "model/weights.h"

namespace qwen35 {

class Model {
 public:
  // context_tokens 0: the file's own. Throws FormatError when the file is not a complete model of the family,
  // InputError when the context cannot be had.
  Model(const std::filesystem::path& path, std::unique_ptr<Backend> backend, std::size_t context_tokens);
  // The file is a header alone; the tensors' bytes come from `source`, which is not needed afterwards.
  Model(const std::filesystem::path& path, std::unique_ptr<Backend> backend, std::size_t context_tokens,
        TensorSource& source);

  const ModelFile& file() const noexcept { return file_; }
  const Config& config() const noexcept { return config_; }
  const Weights& weights() const noexcept { return weights_; }
  const RopeTable& rope() const noexcept { return rope_; }
  std::size_t context_tokens() const noexcept { return context_tokens_; }
  const char* device() const noexcept { return backend_->name(); }

  // The device and its scratch, for one caller at a time.
  class Turn {
   public:
    Backend& ops() const noexcept { return *model_.backend_; }
    // Activations of `rows` rows; valid until the next call or the end of the turn.
    Activations activations(std::size_t rows, std::size_t logit_rows);

   private:
    friend class Model;
    explicit Turn(Model& model) : model_(model), lock_(model.queue_) {}
    Model& model_;
    std::unique_lock<Queue> lock_;
  };
  Turn take_turn() { return Turn(*this); }

 private:
  Model(const std::filesystem::path& path, std::unique_ptr<Backend> backend, std::size_t context_tokens,
        TensorSource* source);

  std::unique_ptr<Backend> backend_;
  Gguf gguf_;
  ModelFile file_;
  Config config_;
  RopeTable rope_;
  std::size_t context_tokens_;
  Weights weights_;
  std::unique_ptr<Scratch> scratch_;
  Queue queue_;
};

}  // namespace qwen35
