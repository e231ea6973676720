#include "model/model.h"

#include <algorithm>
#include <utility>

#include "base/error.h"

namespace qwen35 {
namespace {

template <class Read>
auto naming(const Gguf& file, const Read& read) {
  try {
    return read();
  } catch (const FormatError& error) {
    throw FormatError(file.path().string() + ": " + error.what());
  }
}

Config configure(const ModelFile& file) {
  if (!file.refusal().empty()) throw FormatError(file.refusal());
  return read_config(file.directory());
}

Weights load(const ModelFile& file, const Config& config, Backend& backend, TensorSource* source) {
  MappedTensors mapped(file.file());
  Weights weights = load_weights(file.directory(), config, backend, source == nullptr ? mapped : *source);
  file.file().release();  // a vocabulary takes ten megabytes, and is seldom asked for again
  return weights;
}

}  // namespace

Model::Model(const std::filesystem::path& path, std::unique_ptr<Backend> backend, std::size_t context_tokens)
    : Model(path, std::move(backend), context_tokens, nullptr) {}

Model::Model(const std::filesystem::path& path, std::unique_ptr<Backend> backend, std::size_t context_tokens,
             TensorSource& source)
    : Model(path, std::move(backend), context_tokens, &source) {}

Model::Model(const std::filesystem::path& path, std::unique_ptr<Backend> backend, std::size_t context_tokens,
             TensorSource* source)
    : backend_(std::move(backend)),
      gguf_(path, source == nullptr ? GgufExtent::kWhole : GgufExtent::kHeader),
      file_(gguf_),
      config_(naming(gguf_, [&] { return configure(file_); })),
      rope_(make_rope(config_, context_tokens)),
      context_tokens_(context_tokens == 0 ? config_.context_tokens : context_tokens),
      weights_(naming(gguf_, [&] { return load(file_, config_, *backend_, source); })) {}

Activations Model::Turn::activations(std::size_t rows, std::size_t logit_rows) {
  auto& scratch = model_.scratch_;
  if (!scratch || scratch->rows() < rows || scratch->logit_rows() < logit_rows) {
    const std::size_t most_rows = scratch ? std::max(rows, scratch->rows()) : rows;
    const std::size_t most_logit_rows = scratch ? std::max(logit_rows, scratch->logit_rows()) : logit_rows;
    scratch.reset();  // before the larger one is allocated
    scratch = std::make_unique<Scratch>(*model_.backend_, model_.config_, most_rows, most_logit_rows);
  }
  return scratch->first_rows(rows);
}

}  // namespace qwen35
