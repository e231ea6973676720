#include "model/config.h"

#include <algorithm>
#include <limits>
#include <locale>
#include <sstream>
#include <utility>

#include "backend/step.h"
#include "dialect/refuse.h"

namespace qwen35 {
namespace {

// Bounds an order of magnitude above every released size, so that no product of two of them overflows 64 bits: those of
// models/bounds.py.
constexpr std::size_t kMostLayers = 1024;
constexpr std::size_t kMostHeads = 1024;
constexpr std::size_t kMostHeadWidth = 1024;
constexpr std::size_t kMostExperts = 4096;
constexpr std::size_t kMostWidth = std::size_t{1} << 20;
constexpr std::size_t kMostContext = std::size_t{1} << 24;
constexpr std::int64_t kUnusedToken = 5;  // tokenizer.ggml.token_type of padding entries

class Keys {
 public:
  Keys(const GgufDirectory& file, std::string architecture) : file_(file), architecture_(std::move(architecture)) {}

  [[noreturn]] void fail(const std::string& key, const std::string& given, const std::string& expected) const {
    refuse_key(key, given, expected);
  }
  [[noreturn]] void fail(const std::string& key, std::size_t given, const std::string& expected) const {
    fail(key, std::to_string(given), expected);
  }

  std::string full(const char* key) const { return architecture_ + "." + key; }
  const GgufDirectory& file() const noexcept { return file_; }

  std::optional<std::size_t> find(const char* key, std::size_t least, std::size_t most) const {
    const std::string name = full(key);
    const auto value = file_.get_uint(name);
    if (!value) return std::nullopt;
    return in_range(name, *value, least, most);
  }

  std::size_t need(const char* key, std::size_t least, std::size_t most) const {
    const auto value = find(key, least, most);
    if (!value) fail(full(key), "missing", range(least, most));
    return *value;
  }
  std::uint32_t need32(const char* key, std::size_t least, std::size_t most) const {
    return static_cast<std::uint32_t>(need(key, least, most));
  }

  std::optional<double> find_real(const char* key, double least, double most) const {
    const std::string name = full(key);
    const auto value = file_.get_float(name);
    if (value && !(*value >= least && *value <= most)) fail(name, show(*value), range(least, most));
    return value;
  }

  double need_real(const char* key, double least, double most) const {
    const auto value = find_real(key, least, most);
    if (!value) fail(full(key), "missing", range(least, most));
    return *value;
  }

 private:
  template <class T>
  static std::string show(T value) {
    std::ostringstream text;
    text.imbue(std::locale::classic());
    text << value;
    return text.str();
  }
  template <class T>
  static std::string range(T least, T most) {
    return least == most ? show(least) : show(least) + " to " + show(most);
  }
  std::size_t in_range(const std::string& name, std::uint64_t value, std::size_t least, std::size_t most) const {
    if (value < least || value > most) fail(name, std::to_string(value), range(least, most));
    return static_cast<std::size_t>(value);
  }

  const GgufDirectory& file_;
  std::string architecture_;
};

void read_blocks(Config& config, const Keys& keys) {
  const std::size_t blocks = keys.need("block_count", 1, kMostLayers);
  config.mtp_layers = keys.find("nextn_predict_layers", 0, kMostLayers).value_or(0);
  if (config.mtp_layers >= blocks) {
    keys.fail(keys.full("nextn_predict_layers"), config.mtp_layers, "fewer than block_count " + std::to_string(blocks));
  }
  config.layers = blocks - config.mtp_layers;
  config.attention_interval = keys.find("full_attention_interval", 1, kMostLayers).value_or(4);
  config.hidden = keys.need("embedding_length", 1, kMostWidth);
  config.context_tokens = keys.need("context_length", 1, kMostContext);
  config.eps = static_cast<float>(keys.need_real("attention.layer_norm_rms_epsilon", 1e-12, 0.1));
}

void read_attention(Config& config, const Keys& keys, const DeviceLimits& limits) {
  AttentionShape& shape = config.attention;
  shape.heads = keys.need32("attention.head_count", 1, kMostHeads);
  shape.kv_heads = keys.need32("attention.head_count_kv", 1, kMostHeads);
  shape.width = keys.need32("attention.key_length", 2, kMostHeadWidth);
  const std::size_t value_width = keys.need("attention.value_length", 2, kMostHeadWidth);
  if (shape.heads % shape.kv_heads != 0) {
    keys.fail(keys.full("attention.head_count_kv"), shape.kv_heads,
              "a divisor of head_count " + std::to_string(shape.heads));
  }
  if (shape.heads / shape.kv_heads > limits.query_heads) {
    keys.fail(
        keys.full("attention.head_count"), shape.heads,
        "at most " + std::to_string(limits.query_heads) + " times head_count_kv " + std::to_string(shape.kv_heads));
  }
  if (shape.width % limits.head_unit != 0) {
    keys.fail(keys.full("attention.key_length"), shape.width, "a multiple of " + std::to_string(limits.head_unit));
  }
  if (value_width != shape.width) {
    keys.fail(keys.full("attention.value_length"), value_width, "key_length " + std::to_string(shape.width));
  }
}

void read_rope_sections(Config& config, const Keys& keys) {
  const std::string name = keys.full("rope.dimension_sections");
  const GgufValue* sections = keys.file().get_array(name);
  if (sections == nullptr) return;
  if (sections->size() < 3 || sections->size() > 4) {
    keys.fail(name, "a list of " + std::to_string(sections->size()), "3 or 4 numbers");
  }
  std::uint64_t sum = 0;
  for (std::uint64_t i = 0; i < sections->size(); ++i) {
    const std::uint64_t pairs = sections->uint(i);
    if (pairs > kMostHeadWidth) {
      keys.fail(name, std::to_string(pairs) + " in one section", "0 to " + std::to_string(kMostHeadWidth));
    }
    if (i < config.rope.sections.size()) config.rope.sections[i] = static_cast<std::uint32_t>(pairs);
    sum += pairs;
  }
  if (sum < config.rope.dims / 2) {
    keys.fail(name, "a list that sums to " + std::to_string(sum),
              "at least half of dimension_count: " + std::to_string(config.rope.dims / 2));
  }
}

void read_rope(Config& config, const Keys& keys) {
  RopeConfig& rope = config.rope;
  rope.dims = keys.need("rope.dimension_count", 2, config.attention.width);
  if (rope.dims % 2 != 0) keys.fail(keys.full("rope.dimension_count"), rope.dims, "an even number");
  rope.base = keys.need_real("rope.freq_base", 2.0, 1e12);
  rope.original_context = config.context_tokens;
  read_rope_sections(config, keys);

  const std::string type = std::string(keys.file().get_string(keys.full("rope.scaling.type")).value_or("none"));
  if (type == "none" || type.empty()) return;
  if (type != "yarn") keys.fail(keys.full("rope.scaling.type"), "\"" + type + "\"", "none or yarn");
  rope.factor = keys.need_real("rope.scaling.factor", 1.0, 64.0);
  rope.original_context =
      keys.find("rope.scaling.original_context_length", 1, kMostContext).value_or(config.context_tokens);
  rope.beta_fast = keys.find_real("rope.scaling.yarn_beta_fast", 1e-3, 1e6).value_or(32.0);
  rope.beta_slow = keys.find_real("rope.scaling.yarn_beta_slow", 1e-3, 1e6).value_or(1.0);
  if (rope.beta_fast <= rope.beta_slow) {
    keys.fail(keys.full("rope.scaling.yarn_beta_fast"), std::to_string(rope.beta_fast),
              "more than yarn_beta_slow " + std::to_string(rope.beta_slow));
  }
  rope.attention_factor = keys.find_real("rope.scaling.yarn_attn_factor", 1e-3, 1e3).value_or(1.0);
  // Interpolation without the ramp is another method; no model of the family asks for it.
  keys.find_real("rope.scaling.yarn_ext_factor", 1.0, 1.0);
  const auto scaled_context = static_cast<std::size_t>(static_cast<double>(rope.original_context) * rope.factor);
  config.context_tokens = std::min(std::max(config.context_tokens, scaled_context), kMostContext);
}

void read_delta(Config& config, const Keys& keys, const DeviceLimits& limits) {
  DeltaShape& shape = config.delta;
  shape.conv_width = keys.need32("ssm.conv_kernel", limits.conv_width, limits.conv_width);
  shape.key_width = keys.need32("ssm.state_size", 1, kMostHeadWidth);
  shape.key_heads = keys.need32("ssm.group_count", 1, kMostHeads);
  shape.value_heads = keys.need32("ssm.time_step_rank", 1, kMostHeads);
  if (shape.value_heads % shape.key_heads != 0) {
    keys.fail(keys.full("ssm.time_step_rank"), shape.value_heads,
              "a multiple of group_count " + std::to_string(shape.key_heads));
  }
  const std::size_t inner = keys.need("ssm.inner_size", 1, kMostHeads * kMostHeadWidth);
  const std::size_t unit = shape.value_heads * limits.value_unit;
  if (inner % unit != 0 || inner / shape.value_heads > kMostHeadWidth) {
    keys.fail(keys.full("ssm.inner_size"), inner,
              "a multiple of " + std::to_string(unit) + " (time_step_rank times " + std::to_string(limits.value_unit) +
                  ") with heads of at most " + std::to_string(kMostHeadWidth));
  }
  shape.value_width = static_cast<std::uint32_t>(inner / shape.value_heads);

  // Some writers keep the checkpoint's order of value heads and say so; their weights would give fluent nonsense here.
  const std::string order = keys.full("ssm.v_head_reordered");
  if (shape.value_heads != shape.key_heads && !keys.file().get_bool(order).value_or(true)) {
    keys.fail(order, "false", "true: value heads in the order that llama.cpp writes");
  }
}

void read_feed_forward(Config& config, const Keys& keys) {
  if (config.architecture == "qwen35") {
    config.feed_forward = keys.need("feed_forward_length", 1, kMostWidth);
    return;
  }
  ExpertShape shape{};
  shape.experts = keys.need32("expert_count", 1, kMostExperts);
  shape.top_k = keys.need32("expert_used_count", 1, shape.experts);
  shape.width = keys.need("expert_feed_forward_length", 1, kMostWidth);
  shape.shared_width = keys.need("expert_shared_feed_forward_length", 1, kMostWidth);
  config.moe = shape;
}

std::size_t listed_tokens(const Keys& keys, std::size_t vocabulary) {
  const GgufValue* tokens = keys.file().get_array("tokenizer.ggml.tokens");
  if (tokens == nullptr) return vocabulary;
  if (tokens->size() == 0 || tokens->size() > vocabulary) {
    keys.fail("tokenizer.ggml.tokens", "a list of " + std::to_string(tokens->size()),
              "1 to " + std::to_string(vocabulary) + " (rows of token_embd.weight)");
  }
  const auto listed = static_cast<std::size_t>(tokens->size());
  const GgufValue* types = keys.file().get_array("tokenizer.ggml.token_type");
  if (types == nullptr) return listed;
  if (types->size() != listed) {
    keys.fail("tokenizer.ggml.token_type", "a list of " + std::to_string(types->size()),
              "as many as tokenizer.ggml.tokens: " + std::to_string(listed));
  }
  for (std::size_t used = listed; used > 0; --used) {
    if (types->integer(used - 1) != kUnusedToken) return used;
  }
  keys.fail("tokenizer.ggml.token_type", "5 (unused) everywhere", "at least one token in use");
}

void read_vocabulary(Config& config, const Keys& keys) {
  const GgufTensor* table = keys.file().find("token_embd.weight");
  if (table == nullptr) table = keys.file().find("output.weight");
  if (table == nullptr) return;  // binding the weights names every missing tensor at once
  const std::uint64_t rows = table->shape.size() < 2 ? 1 : table->shape[1];
  if (rows > std::numeric_limits<Token>::max()) {
    keys.fail("token_embd.weight", std::to_string(rows) + " rows", "fewer than 2^31");
  }
  config.vocabulary = static_cast<std::size_t>(rows);
  config.tokens_used = listed_tokens(keys, config.vocabulary);
}

}  // namespace

Config read_config(const GgufDirectory& file, const DeviceLimits& limits) {
  Config config;
  config.architecture = std::string(file.get_string("general.architecture").value_or(""));
  const Keys keys(file, config.architecture);
  config.name = std::string(file.get_string("general.name").value_or(""));
  read_blocks(config, keys);
  read_attention(config, keys, limits);
  read_rope(config, keys);
  read_delta(config, keys, limits);
  read_feed_forward(config, keys);
  read_vocabulary(config, keys);
  return config;
}

}  // namespace qwen35
