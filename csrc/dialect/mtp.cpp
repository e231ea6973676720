#include "dialect/mtp.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <span>
#include <string_view>
#include <system_error>
#include <unordered_set>
#include <utility>

#include "dialect/keys.h"
#include "tensor/blocks.h"

namespace qwen35 {
namespace {

constexpr std::string_view kPrefix = "mtp.";
constexpr std::string_view kLayerPrefix = "mtp.layers.0.";

// Ollama's names beside those of the layer, which are a block's own behind "mtp.layers.0.".
constexpr std::pair<std::string_view, std::string_view> kNames[] = {
    {"mtp.fc.weight", "nextn.eh_proj.weight"},
    {"mtp.pre_fc_norm_embedding.weight", "nextn.enorm.weight"},
    {"mtp.pre_fc_norm_hidden.weight", "nextn.hnorm.weight"},
    {"mtp.norm.weight", "nextn.shared_head_norm.weight"},
    {"mtp.shared_head.norm.weight", "nextn.shared_head_norm.weight"},
    {"mtp.shared_head.head.weight", "nextn.shared_head_head.weight"},
    {"mtp.embed_tokens.weight", "nextn.embed_tokens.weight"},
};

constexpr const char* kNeeded[] = {
    "attn_norm.weight",     "attn_q.weight",      "attn_k.weight",      "attn_v.weight",
    "attn_output.weight",   "attn_q_norm.weight", "attn_k_norm.weight", "post_attention_norm.weight",
    "nextn.eh_proj.weight", "nextn.enorm.weight", "nextn.hnorm.weight", "nextn.shared_head_norm.weight",
};
constexpr const char* kNeededDense[] = {"ffn_gate.weight", "ffn_up.weight", "ffn_down.weight"};
constexpr const char* kNeededExperts[] = {
    "ffn_gate_inp.weight",   "ffn_down_exps.weight", "ffn_gate_inp_shexp.weight",
    "ffn_gate_shexp.weight", "ffn_up_shexp.weight",  "ffn_down_shexp.weight",
};
constexpr const char* kFusedExperts = "ffn_gate_up_exps.weight";
constexpr const char* kSplitExperts[] = {"ffn_gate_exps.weight", "ffn_up_exps.weight"};

std::string block_prefix(std::uint64_t block) { return "blk." + std::to_string(block) + "."; }

bool has_prefix(const GgufDirectory& file, std::string_view prefix) {
  const auto tensors = file.tensors();
  return std::any_of(tensors.begin(), tensors.end(), [&](const GgufTensor& t) { return t.name.starts_with(prefix); });
}

bool predicts(const GgufDirectory& file, std::uint64_t block) {
  return has_prefix(file, block_prefix(block) + "nextn.");
}

// Whether the block holds what a main layer of its number does. An MTP block attends where its number would not.
bool is_main_layer(const GgufDirectory& file, const std::string& architecture, std::uint64_t block) {
  if (file.find(block_prefix(block) + "ssm_a") != nullptr) return true;
  const std::uint64_t interval = find_count(file, architecture + ".full_attention_interval").value_or(0);
  return interval != 0 && (block + 1) % interval == 0 && file.find(block_prefix(block) + "attn_q.weight") != nullptr;
}

// Whether the last block is no main layer: the layers of the family end with one that attends, and this is the next.
bool is_beyond(const GgufDirectory& file, const std::string& architecture, std::uint64_t block) {
  const std::uint64_t interval = find_count(file, architecture + ".full_attention_interval").value_or(0);
  return interval > 1 && block % interval == 0 && !is_main_layer(file, architecture, block);
}

// The main layers and the MTP blocks that are there, or should be; nothing for a file without. The counts are not
// always right: writers have left the MTP block out of block_count, and dropped the key that tells it from the layers.
std::optional<Blocks> find_blocks(const GgufDirectory& file, const std::string& architecture) {
  const auto counted = counted_blocks(file, architecture);
  if (!counted) return std::nullopt;
  const auto [main, mtp] = *counted;
  if (mtp > 0) {
    const bool is_layer = !predicts(file, main) && is_main_layer(file, architecture, main);
    return Blocks{is_layer ? main + mtp : main, mtp};
  }
  if (main > 1 && (predicts(file, main - 1) || is_beyond(file, architecture, main - 1))) return Blocks{main - 1, 1};
  if (has_prefix(file, block_prefix(main)) || has_prefix(file, kPrefix)) return Blocks{main, 1};
  return std::nullopt;
}

bool is_part(std::string_view name, const Blocks& blocks) {
  constexpr std::string_view kBlock = "blk.";
  if (name.starts_with(kPrefix)) return true;
  if (!name.starts_with(kBlock)) return false;
  std::uint64_t block = 0;
  const char* end = name.data() + name.size();
  const auto [rest, error] = std::from_chars(name.data() + kBlock.size(), end, block);
  if (error != std::errc{} || rest == end || *rest != '.') return false;
  return block >= blocks.main && block - blocks.main < blocks.mtp;
}

std::optional<std::string> name_in_block(std::string_view name, const std::string& block) {
  if (name.starts_with(kLayerPrefix)) {
    const std::string_view part = name.substr(kLayerPrefix.size());
    const auto lists = [&](std::span<const char* const> parts) {
      return std::find(parts.begin(), parts.end(), part) != parts.end();
    };
    const bool is_known = lists(kNeeded) || lists(kNeededDense) || lists(kNeededExperts) || lists(kSplitExperts);
    if (is_known || part == kFusedExperts) return block + std::string(part);
    return std::nullopt;
  }
  for (const auto& [theirs, ours] : kNames) {
    if (name == theirs) return block + std::string(ours);
  }
  return std::nullopt;
}

// Whether the gains are around one, as they are multiplied. Ollama's older converter left those of these norms around
// zero, as checkpoints keep them, and added the one to all others.
bool multiplies(const Gguf& source, const GgufTensor& norm) {
  constexpr std::size_t kMostGains = std::size_t{1} << 20;
  const bool is_plain = norm.dtype == DType::kF32 || norm.dtype == DType::kF16 || norm.dtype == DType::kBF16;
  if (source.extent() == GgufExtent::kHeader || !is_plain) return true;
  const MatrixView matrix = norm.matrix();
  if (matrix.rows > kMostGains || matrix.cols > kMostGains / matrix.rows) return true;
  std::vector<float> gains(matrix.rows * matrix.cols);
  std::vector<std::byte> encoded(norm.bytes);
  source.read(norm, 0, encoded.data(), encoded.size());
  decode(norm.dtype, encoded.data(), gains.data(), gains.size());
  double sum = 0;
  for (const float gain : gains) {
    if (!(gain > 0)) return false;
    sum += static_cast<double>(gain);
  }
  return sum >= 0.5 * static_cast<double>(gains.size());
}

// Puts Ollama's names where they belong. Nothing is renamed when that does not work out for all of them; the reason
// comes back.
std::string rename_block(EditedDirectory& file, const Gguf& source, const std::string& block) {
  std::unordered_set<std::string> taken;
  for (const GgufTensor& tensor : file.tensors()) {
    if (!tensor.name.starts_with(kPrefix)) continue;
    const auto name = name_in_block(tensor.name, block);
    if (!name) return std::string(tensor.name) + " has no place in it";
    if (file.find(*name) != nullptr || !taken.insert(*name).second) return *name + " is there twice";
    if (name->find(".nextn.") != std::string::npos && name->ends_with("norm.weight") && !multiplies(source, tensor)) {
      return "the gains of " + std::string(tensor.name) + " lack the 1 that is added to them";
    }
  }
  file.change_tensors([&](GgufTensor& tensor) {
    if (tensor.name.starts_with(kPrefix)) tensor.name = file.keep(*name_in_block(tensor.name, block));
  });
  return "";
}

std::vector<std::string> missing_tensors(const GgufDirectory& file, const Blocks& blocks, bool has_experts) {
  std::vector<std::string> missing;
  for (std::uint64_t i = 0; i < blocks.mtp; ++i) {
    const std::string block = block_prefix(blocks.main + i);
    const auto need = [&](std::span<const char* const> parts) {
      for (const char* part : parts) {
        if (file.find(block + part) == nullptr) missing.push_back(block + part);
      }
    };
    need(kNeeded);
    need(has_experts ? std::span<const char* const>(kNeededExperts) : kNeededDense);
    if (has_experts && file.find(block + kFusedExperts) == nullptr) need(kSplitExperts);
  }
  return missing;
}

std::string shown(const std::vector<std::string>& names) {
  constexpr std::size_t kMostShown = 5;
  std::string text;
  for (std::size_t i = 0; i < std::min(names.size(), kMostShown); ++i) text += (i == 0 ? "" : ", ") + names[i];
  if (names.size() > kMostShown) text += " and " + std::to_string(names.size() - kMostShown) + " more";
  return text;
}

}  // namespace

void settle_mtp(EditedDirectory& file, const Gguf& source, const std::string& architecture,
                std::vector<GgufTensor>& broken, std::vector<std::string>& notices) {
  const auto blocks = find_blocks(file, architecture);
  if (!blocks) return;
  const std::string count_key = architecture + ".block_count", mtp_key = architecture + ".nextn_predict_layers";
  const std::string counted = file.find_value(mtp_key) != nullptr
                                  ? mtp_key + " is " + std::to_string(blocks->mtp)
                                  : count_key + " is " + std::to_string(blocks->main + blocks->mtp);
  std::string wrong = rename_block(file, source, block_prefix(blocks->main));
  const std::vector<std::string> missing = missing_tensors(file, *blocks, architecture == "qwen35moe");
  if (wrong.empty() && !missing.empty()) wrong = "missing are " + shown(missing);
  if (wrong.empty()) {
    file.set(count_key, static_cast<std::uint32_t>(blocks->main + blocks->mtp));
    file.set(mtp_key, static_cast<std::uint32_t>(blocks->mtp));
    return;
  }
  file.move_tensors([&](const GgufTensor& tensor) { return is_part(tensor.name, *blocks); }, broken);
  notices.push_back(!broken.empty()
                        ? "the multi-token-prediction block is left out (" + wrong + "): the model runs without it"
                        : counted +
                              ", but the multi-token-prediction block is not in the file: the model runs without it");
  file.set(count_key, static_cast<std::uint32_t>(blocks->main));
  file.remove(mtp_key);
}

}  // namespace qwen35
