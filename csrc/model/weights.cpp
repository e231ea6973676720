#include "model/weights.h"

#include <cmath>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <unordered_set>

#include "base/error.h"
#include "tensor/blocks.h"

namespace qwen35 {
namespace {

using Shape = std::vector<std::uint64_t>;  // as in the file: contiguous dimension first

constexpr std::size_t kMostNamed = 10;

// Writers differ in whether they keep dimensions of size 1: [D] and [D, 1] are the same tensor.
Shape trimmed(Shape shape) {
  while (shape.size() > 1 && shape.back() == 1) shape.pop_back();
  return shape;
}

std::string show(const Shape& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i) text += (i == 0 ? "" : ", ") + std::to_string(shape[i]);
  return text + "]";
}

class Errors {
 public:
  explicit Errors(const char* what) : what_(what) {}

  void add(std::string tensor) {
    if (named_.size() < kMostNamed) named_.push_back(std::move(tensor));
    ++count_;
  }
  std::string text() const {
    if (count_ == 0) return "";
    std::string line = std::to_string(count_) + (count_ == 1 ? " tensor is " : " tensors are ") + what_ + ": ";
    for (std::size_t i = 0; i < named_.size(); ++i) line += (i == 0 ? "" : ", ") + named_[i];
    if (count_ > named_.size()) line += " and " + std::to_string(count_ - named_.size()) + " more";
    return line + ". ";
  }

 private:
  const char* what_;
  std::vector<std::string> named_;
  std::size_t count_ = 0;
};

// Where tensors go, and where their bytes come from.
struct Packing {
  Backend& backend;
  TensorSource& source;
  const std::function<void()>& pause;
};

// Finds tensors by name. Without a packing it only checks and collects every error; with one it packs.
class Binder {
 public:
  Binder(const GgufDirectory& file, const Packing* packing, Weights& weights)
      : file_(file), packing_(packing), weights_(weights) {}

  bool has(const std::string& name) const { return file_.find(name) != nullptr; }

  // experts > 1 stacks that many matrices of rows x cols, each of `parts` that are used apart.
  const Weight* matrix(const std::string& name, std::size_t rows, std::size_t cols, std::size_t experts = 1,
                       std::size_t parts = 1) {
    return packed(name, {cols, rows, experts},
                  [&](const MatrixView& encoded, const GgufTensor&, const Consumed& consumed) {
                    return packing_->backend.pack(encoded, experts * parts, consumed);
                  });
  }

  // Only embed() reads it.
  const Weight* table(const std::string& name, std::size_t rows, std::size_t cols) {
    return packed(name, {cols, rows, 1},
                  [&](const MatrixView& encoded, const GgufTensor& tensor, const Consumed& consumed) {
                    return packing_->backend.pack_table(encoded, packing_->source.mapping(tensor), consumed);
                  });
  }

  // Rows of a matrix that is bound already.
  const Weight* view(const Weight* matrix, std::size_t first, std::size_t rows) {
    if (packing_ == nullptr) return nullptr;
    return weights_.matrices.emplace_back(packing_->backend.view(*matrix, first, rows)).get();
  }

  DevicePtr<const float> vector(const std::string& name, std::size_t count, std::size_t rows = 1) {
    const GgufTensor* tensor = find(name, {count, rows});
    if (tensor == nullptr) return nullptr;
    if (tensor->dtype != DType::kF32 && tensor->dtype != DType::kF16 && tensor->dtype != DType::kBF16) {
      types_.add(name + " (" + tensor->type_name() + ", expected F32, F16 or BF16)");
      return nullptr;
    }
    if (packing_ == nullptr) return nullptr;
    packing_->pause();
    std::vector<float> values(count * rows);
    const std::byte* encoded = packing_->source.take(*tensor);
    decode(tensor->dtype, encoded, values.data(), values.size());
    packing_->source.give_back(encoded, tensor->bytes);
    for (const float value : values) {
      if (!std::isfinite(value)) throw FormatError(name + " holds a value that is not finite");
    }
    const auto bytes = std::as_bytes(std::span(values));
    Backend& backend = packing_->backend;
    Buffer& buffer = *weights_.vectors.emplace_back(backend.allocate(bytes.size()));
    backend.upload(buffer.data(), bytes.data(), bytes.size());
    backend.synchronize();  // `values` goes away
    list(name, rows, count, bytes.size(), nullptr);
    return buffer.data().as<const float>();
  }

  void finish_checks(const Config& config) {
    for (const GgufTensor& tensor : file_.tensors()) {
      if (!bound_.contains(std::string(tensor.name))) unexpected_.add(std::string(tensor.name));
    }
    const std::string wrong = missing_.text() + unexpected_.text() + shapes_.text() + types_.text();
    if (!wrong.empty()) {
      throw FormatError(wrong + "This is not a complete " + config.architecture +
                        " model as its metadata describes it; download or convert it again.");
    }
  }

 private:
  template <class Pack>
  const Weight* packed(const std::string& name, Shape shape, const Pack& pack) {
    const GgufTensor* tensor = find(name, shape);
    if (tensor == nullptr || packing_ == nullptr) return nullptr;
    packing_->pause();
    MatrixView encoded = tensor->matrix();
    encoded.data = packing_->source.take(*tensor);
    TensorSource& source = packing_->source;
    const auto give_back = [&source](const std::byte* data, std::size_t bytes) { source.give_back(data, bytes); };
    const Weight* weight = weights_.matrices.emplace_back(pack(encoded, *tensor, give_back)).get();
    source.give_back(encoded.data, tensor->bytes);
    list(name, weight->rows(), weight->cols(), weight->bytes(), weight);
    return weight;
  }

  void list(const std::string& name, std::size_t rows, std::size_t cols, std::size_t bytes, const Weight* matrix) {
    weights_.directory.push_back({name, rows, cols, bytes, matrix});
    weights_.bytes += bytes;
  }

  const GgufTensor* find(const std::string& name, Shape shape) {
    const GgufTensor* tensor = file_.find(name);
    if (tensor == nullptr) {
      missing_.add(name);
      return nullptr;
    }
    bound_.insert(name);
    const Shape expected = trimmed(std::move(shape));
    if (trimmed(tensor->shape) != expected) {
      shapes_.add(name + " (" + show(tensor->shape) + ", expected " + show(expected) + ")");
      return nullptr;
    }
    return tensor;
  }

  const GgufDirectory& file_;
  const Packing* packing_;
  Weights& weights_;
  std::unordered_set<std::string> bound_;
  Errors missing_{"missing"}, unexpected_{"unexpected"}, shapes_{"of another shape"}, types_{"of another type"};
};

DeltaNetWeights bind_delta_net(Binder& bind, const Config& c, const std::string& block) {
  const std::size_t heads = c.delta.value_heads;
  return {.qkv = bind.matrix(block + "attn_qkv.weight", c.conv_channels(), c.hidden),
          .z = bind.matrix(block + "attn_gate.weight", c.delta_width(), c.hidden),
          .a = bind.matrix(block + "ssm_alpha.weight", heads, c.hidden),
          .b = bind.matrix(block + "ssm_beta.weight", heads, c.hidden),
          .conv = bind.vector(block + "ssm_conv1d.weight", c.delta.conv_width, c.conv_channels()),
          .ssm_a = bind.vector(block + "ssm_a", heads),
          .dt_bias = bind.vector(block + "ssm_dt.bias", heads),
          .norm = bind.vector(block + "ssm_norm.weight", c.delta.value_width),
          .out = bind.matrix(block + "ssm_out.weight", c.hidden, c.delta_width())};
}

AttentionWeights bind_attention(Binder& bind, const Config& c, const std::string& block) {
  return {.q_gate = bind.matrix(block + "attn_q.weight", 2 * c.query_width(), c.hidden),
          .k = bind.matrix(block + "attn_k.weight", c.kv_width(), c.hidden),
          .v = bind.matrix(block + "attn_v.weight", c.kv_width(), c.hidden),
          .q_norm = bind.vector(block + "attn_q_norm.weight", c.attention.width),
          .k_norm = bind.vector(block + "attn_k_norm.weight", c.attention.width),
          .out = bind.matrix(block + "attn_output.weight", c.hidden, c.query_width())};
}

DenseWeights bind_dense(Binder& bind, const Config& c, const std::string& block, const std::string& suffix,
                        std::size_t width) {
  return {.gate = bind.matrix(block + "ffn_gate" + suffix, width, c.hidden),
          .up = bind.matrix(block + "ffn_up" + suffix, width, c.hidden),
          .down = bind.matrix(block + "ffn_down" + suffix, c.hidden, width)};
}

MoeWeights bind_moe(Binder& bind, const Config& c, const std::string& block) {
  const ExpertShape& moe = *c.moe;
  MoeWeights w{};
  ExpertWeights& e = w.experts;
  e.count = moe.experts;
  w.router = bind.matrix(block + "ffn_gate_inp.weight", moe.experts, c.hidden);
  if (bind.has(block + "ffn_gate_up_exps.weight")) {
    e.gate = bind.matrix(block + "ffn_gate_up_exps.weight", 2 * moe.width, c.hidden, moe.experts, 2);
  } else {
    e.gate = bind.matrix(block + "ffn_gate_exps.weight", moe.width, c.hidden, moe.experts);
    e.up = bind.matrix(block + "ffn_up_exps.weight", moe.width, c.hidden, moe.experts);
  }
  e.down = bind.matrix(block + "ffn_down_exps.weight", c.hidden, moe.width, moe.experts);
  w.shared_gate = bind.matrix(block + "ffn_gate_inp_shexp.weight", 1, c.hidden);
  const DenseWeights shared = bind_dense(bind, c, block, "_shexp.weight", moe.shared_width);
  e.shared = SharedExpert{shared.gate, shared.up, shared.down};
  return w;
}

LayerWeights bind_layer(Binder& bind, const Config& c, std::size_t layer) {
  const std::string block = "blk." + std::to_string(layer) + ".";
  LayerWeights w{};
  w.index = static_cast<std::uint32_t>(c.mixer_index(layer));
  w.mixer_norm = bind.vector(block + "attn_norm.weight", c.hidden);
  if (c.is_attention(layer)) {
    w.mixer = bind_attention(bind, c, block);
  } else {
    w.mixer = bind_delta_net(bind, c, block);
  }
  w.feed_forward_norm = bind.vector(block + "post_attention_norm.weight", c.hidden);
  if (c.moe) {
    w.feed_forward = bind_moe(bind, c, block);
  } else {
    w.feed_forward = bind_dense(bind, c, block, ".weight", c.feed_forward);
  }
  return w;
}

MtpWeights bind_mtp(Binder& bind, const Config& c, std::size_t layer, const Weights& model, DraftVocabulary drafted) {
  const std::string block = "blk." + std::to_string(layer) + ".nextn.";
  MtpWeights w{};
  w.embedding_norm = bind.vector(block + "enorm.weight", c.hidden);
  w.hidden_norm = bind.vector(block + "hnorm.weight", c.hidden);
  w.join = bind.matrix(block + "eh_proj.weight", c.hidden, 2 * c.hidden);
  w.layer = bind_layer(bind, c, layer);
  w.norm = bind.vector(block + "shared_head_norm.weight", c.hidden);
  const std::string embedding = block + "embed_tokens.weight";
  w.embedding = bind.has(embedding) ? bind.table(embedding, c.vocabulary, c.hidden) : model.embedding;
  const std::string head = block + "shared_head_head.weight";
  w.head = bind.has(head) ? bind.matrix(head, c.vocabulary, c.hidden) : model.head;
  w.drafted = drafted;
  w.frequent_head = bind.view(w.head, 0, drafted.frequent);
  if (!drafted.is_whole()) w.last_head = bind.view(w.head, drafted.last, drafted.all - drafted.last);
  return w;
}

void bind_model(Binder& bind, const Config& c, Weights& w) {
  w.is_tied = !bind.has("output.weight");
  w.embedding = w.is_tied ? bind.matrix("token_embd.weight", c.vocabulary, c.hidden)
                          : bind.table("token_embd.weight", c.vocabulary, c.hidden);
  for (std::size_t layer = 0; layer < c.layers; ++layer) w.layers.push_back(bind_layer(bind, c, layer));
  w.norm = bind.vector("output_norm.weight", c.hidden);
  w.head = w.is_tied ? w.embedding : bind.matrix("output.weight", c.vocabulary, c.hidden);
}

void bind_mtp_layers(Binder& bind, const Config& c, DraftVocabulary drafted, Weights& w) {
  for (std::size_t i = 0; i < c.mtp_layers; ++i) w.mtp.push_back(bind_mtp(bind, c, c.layers + i, w, drafted));
}

// Pools of a part hold its layers alone, so their indices begin at 0.
void bind_part(Binder& bind, const Config& c, const LayerRange& part, Weights& w) {
  if (part.first == 0) w.embedding = bind.matrix("token_embd.weight", c.vocabulary, c.hidden);
  std::uint32_t delta = 0, attention = 0;
  for (std::size_t layer = part.first; layer < part.end(); ++layer) {
    LayerWeights& bound = w.layers.emplace_back(bind_layer(bind, c, layer));
    bound.index = c.is_attention(layer) ? attention++ : delta++;
  }
}

}  // namespace

Weights load_weights(const GgufDirectory& file, const Config& config, Backend& backend, TensorSource& source,
                     DraftVocabulary drafted, const std::function<void()>& pause,
                     const std::optional<LayerRange>& part) {
  Weights checked;
  Binder check(file, nullptr, checked);
  bind_model(check, config, checked);
  bind_mtp_layers(check, config, drafted, checked);
  check.finish_checks(config);

  Weights weights;
  const Packing packing{backend, source, pause};
  Binder pack(file, &packing, weights);
  if (part) {
    bind_part(pack, config, *part, weights);
  } else {
    bind_model(pack, config, weights);
    if (drafted.all > 0) bind_mtp_layers(pack, config, drafted, weights);
  }
  return weights;
}

}  // namespace qwen35
