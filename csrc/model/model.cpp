#include "model/model.h"

#include <algorithm>
#include <span>
#include <utility>

#include "base/error.h"

namespace qwen35 {
namespace {

template <class Read>
auto naming(const ModelFile& file, const Read& read) {
  try {
    return read();
  } catch (const FormatError& error) {
    throw FormatError(file.file().path().string() + ": " + error.what());
  }
}

Config configure(const ModelFile& file, const Backend& device) {
  if (!file.refusal().empty()) throw FormatError(file.refusal());
  return read_config(file.directory(), device.limits());
}

DraftVocabulary to_vocabulary(const Config& config, const Drafting& drafting) {
  if (drafting.tokens == 0 || drafting.tokens % kViewedRows != 0) {
    throw InputError("draft_tokens is " + std::to_string(drafting.tokens) + ", expected a multiple of " +
                     std::to_string(kViewedRows));
  }
  return drafting.most == 0 ? DraftVocabulary() : DraftVocabulary(config.vocabulary, drafting.tokens);
}

}  // namespace

std::uint32_t check_drafts(std::size_t drafts) {
  if (drafts <= kMostUncertain) return static_cast<std::uint32_t>(drafts);
  throw InputError("drafts is " + std::to_string(drafts) + ", expected 0 to " + std::to_string(kMostUncertain));
}

Model::Model(const ModelFile& file, std::unique_ptr<Backend> backend, std::size_t context_tokens, Drafting drafting,
             std::size_t pass_rows, TensorSource* source, const std::function<void()>& pause,
             const std::optional<LayerRange>& part)
    : backend_(std::move(backend)),
      config_(naming(file, [&] { return configure(file, *backend_); })),
      rope_table_(make_rope(config_, context_tokens)),
      context_tokens_(context_tokens == 0 ? config_.context_tokens : context_tokens),
      drafts_(check_drafts(drafting.most)),
      drafted_(to_vocabulary(config_, drafting)),
      pass_rows_(pass_rows),
      weights_(load(file, source, pause, part)) {
  const auto bytes = std::as_bytes(std::span(rope_table_.inv_freq));
  inv_freq_ = backend_->allocate(bytes.size());
  backend_->upload(inv_freq_->data(), bytes.data(), bytes.size());
  backend_->synchronize();
}

std::uint32_t Model::attention_layers() const noexcept {
  return static_cast<std::uint32_t>(std::ranges::count_if(weights_.layers, [](const LayerWeights& layer) {
    return std::holds_alternative<AttentionWeights>(layer.mixer);
  }));
}

Rope Model::rope() const noexcept {
  return {inv_freq_->data().as<const double>(), static_cast<std::uint32_t>(rope_table_.inv_freq.size()),
          config_.rope.sections, rope_table_.magnitude};
}

Weights Model::load(const ModelFile& file, TensorSource* source, const std::function<void()>& pause,
                    const std::optional<LayerRange>& part) {
  if (part && (part->count == 0 || part->end() > config_.layers)) {
    throw InputError("layers " + std::to_string(part->first) + " to " + std::to_string(part->end()) +
                     ", expected some of the " + std::to_string(config_.layers) + " of this model");
  }
  const auto from = [&](TensorSource& tensors) {
    return naming(file,
                  [&] { return load_weights(file.directory(), config_, *backend_, tensors, drafted_, pause, part); });
  };
  if (source != nullptr) return from(*source);
  if (file.file().extent() == GgufExtent::kHeader) {
    throw InputError(file.file().path().string() + ": opened as a header alone; a model needs the whole file");
  }
  FileTensors tensors(file.file());
  was_mapped_ = tensors.is_mapped();
  try {
    Weights weights = from(tensors);
    tensors.require_intact();
    return weights;
  } catch (const FormatError&) {
    tensors.require_intact();  // what is wrong may come from the change
    throw;
  }
}

Activations Model::DeviceLock::reserve(const Step& step, std::size_t logit_rows) {
  auto& scratch = model_.scratch_;
  const std::size_t rows = step.tokens.size();
  if (!scratch || scratch->rows() < rows || scratch->logit_rows() < logit_rows) {
    const std::size_t most_rows = scratch ? std::max(rows, scratch->rows()) : rows;
    const std::size_t most_logit_rows = scratch ? std::max(logit_rows, scratch->logit_rows()) : logit_rows;
    scratch.reset();  // before the larger one is allocated
    scratch = std::make_unique<Scratch>(*model_.backend_, model_.config_, most_rows, most_logit_rows,
                                        model_.draft_block() != nullptr);
  }
  model_.backend_->reserve(model_.config_, step);
  return scratch->first_rows(rows);
}

DevicePtr<float> Model::DeviceLock::input_rows(std::size_t rows) {
  auto& buffer = model_.input_rows_;
  const std::size_t bytes = rows * model_.config_.hidden * sizeof(float);
  if (buffer == nullptr || buffer->bytes() < bytes) {
    buffer.reset();  // before the larger one is allocated
    buffer = model_.backend_->allocate(bytes);
  }
  return buffer->data().as<float>();
}

KvPool& Model::DeviceLock::kv_pool(KvPools& pools, KvFormat format, std::size_t layers) {
  auto& pool = pools[static_cast<std::size_t>(format)];
  if (pool == nullptr) {
    pool = model_.backend_->kv_pool({.layers = static_cast<std::uint32_t>(layers),
                                     .shape = model_.config_.attention,
                                     .format = format,
                                     .uncertain = model_.drafts_});
  }
  return *pool;
}

KvPool& Model::DeviceLock::kv_pool(KvFormat format) {
  return kv_pool(model_.kv_pools_, format, model_.attention_layers());
}

KvPool& Model::DeviceLock::draft_pool(KvFormat format) {
  return kv_pool(model_.draft_pools_, format, model_.draft_block() == nullptr ? 0 : 1);
}

std::size_t Model::DeviceLock::saved_page_bytes() const {
  std::size_t bytes = 0;
  for (const auto* pools : {&model_.kv_pools_, &model_.draft_pools_}) {
    for (const auto& pool : *pools) bytes += pool == nullptr ? 0 : pool->saved_bytes();
  }
  return bytes;
}

StatePool& Model::DeviceLock::state_pool() {
  auto& pool = model_.state_pool_;
  if (pool == nullptr) {
    const auto layers = static_cast<std::uint32_t>(model_.weights_.layers.size()) - model_.attention_layers();
    pool = model_.backend_->state_pool({.layers = layers,
                                        .shape = model_.config_.delta,
                                        .uncertain = model_.drafts_,
                                        .hidden = model_.draft_block() == nullptr ? 0 : model_.config_.hidden});
  }
  return *pool;
}

}  // namespace qwen35
