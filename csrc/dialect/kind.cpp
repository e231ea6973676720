#include "dialect/kind.h"

#include <algorithm>
#include <string_view>
#include <utility>
#include <vector>

namespace qwen35 {
namespace {

constexpr const char* kProjector =
    "this is the image encoder (mmproj) that goes with a model, not a model; give the model's own GGUF, the file "
    "beside "
    "it without \"mmproj\" in its name";
constexpr const char* kAdapter =
    "this is an adapter (LoRA or control vector), which changes a model and is none; merge it into its base model "
    "(llama-export-lora) and give the result, or give the base model's GGUF";
constexpr const char* kImportance =
    "this is an importance matrix, which guides a quantiser and is no model; give the model's own GGUF";
constexpr const char* kVocabulary =
    "this is a vocabulary without weights; give the GGUF of the whole model that it belongs to";
constexpr const char* kDraft =
    "this is a multi-token-prediction block alone, which drafts for a model and is none; give the GGUF of the whole "
    "model";

// A string's text; empty where the key is missing or holds something else.
std::string_view text(const GgufDirectory& file, std::string_view key) {
  const GgufValue* value = file.find_value(key);
  return value == nullptr || value->is_array() || value->type() != GgufType::kString ? "" : value->string();
}

bool has_tensor(const GgufDirectory& file, std::string_view prefix) {
  const auto tensors = file.tensors();
  return std::any_of(tensors.begin(), tensors.end(), [&](const GgufTensor& t) { return t.name.starts_with(prefix); });
}

bool has_part(const GgufDirectory& file, std::string_view part) {
  const auto tensors = file.tensors();
  return std::any_of(tensors.begin(), tensors.end(),
                     [&](const GgufTensor& t) { return t.name.find(part) != std::string_view::npos; });
}

std::string other_family(const GgufDirectory& file) {
  const GgufValue* value = file.find_value("general.architecture");
  const std::string_view architecture = text(file, "general.architecture");
  const std::string given = value == nullptr       ? "missing"
                            : architecture.empty() ? "no name"
                                                   : "\"" + std::string(architecture) + "\"";
  return "general.architecture is " + given +
         ", expected qwen35 or qwen35moe: this is a model of another family or none; give a GGUF of Qwen3.5, 3.6 or "
         "3.8";
}

}  // namespace

FileKind kind_of(const GgufDirectory& file) {
  const std::string_view type = text(file, "general.type");
  const std::string_view architecture = text(file, "general.architecture");
  if (type == "mmproj" || architecture == "clip") return {"projector", kProjector};
  if (type == "adapter" || architecture == "controlvector" || file.find_value("adapter.type") != nullptr ||
      has_part(file, ".lora_a")) {
    return {"adapter", kAdapter};
  }
  if (type == "imatrix" || file.find_value("imatrix.chunk_count") != nullptr) return {"importance matrix", kImportance};
  if (architecture != "qwen35" && architecture != "qwen35moe") return {"other", other_family(file)};
  if (file.tensors().empty()) return {"vocabulary", kVocabulary};
  if (!has_tensor(file, "blk.0.") && has_part(file, ".nextn.")) return {"draft", kDraft};
  return {"model", ""};
}

std::string refuse_types(const GgufDirectory& file) {
  const GgufTensor* first = nullptr;
  std::vector<std::pair<std::string, std::size_t>> counts;
  for (const GgufTensor& tensor : file.tensors()) {
    if (find_dtype(static_cast<std::uint32_t>(tensor.dtype)) != nullptr) continue;
    if (first == nullptr) first = &tensor;
    const std::string type = tensor.type_name();
    const auto at = std::find_if(counts.begin(), counts.end(), [&](const auto& count) { return count.first == type; });
    if (at == counts.end()) {
      counts.emplace_back(type, 1);
    } else {
      ++at->second;
    }
  }
  if (first == nullptr) return "";
  constexpr std::size_t kMostTypes = 8;
  std::string found;
  for (std::size_t i = 0; i < std::min(counts.size(), kMostTypes); ++i) {
    found += (i == 0 ? "" : ", ") + std::to_string(counts[i].second) + " of " + counts[i].first;
  }
  std::string known;
  for (const DTypeInfo& type : dtypes()) known += (known.empty() ? "" : ", ") + std::string(type.name);
  return "tensor " + std::string(first->name) + " is " + first->type_name() + ", a type that is not run here (" +
         found + "); get the same model as Q4_K_M. Types that are run: " + known;
}

}  // namespace qwen35
