#include "dialect/model_file.h"

#include <algorithm>

#include "base/error.h"
#include "dialect/keys.h"
#include "dialect/mtp.h"
#include "dialect/padding.h"

namespace qwen35 {
namespace {

// Vision towers as llama.cpp and Ollama name them.
bool is_vision(const GgufTensor& tensor) { return tensor.name.starts_with("v.") || tensor.name.starts_with("mm."); }

// Ollama has written the bias without its suffix.
void rename_dt_bias(EditedDirectory& directory, const Gguf& file) {
  directory.change_tensors([&](GgufTensor& tensor) {
    const std::string name = std::string(tensor.name) + ".bias";
    if (tensor.name.ends_with(".ssm_dt") && file.find(name) == nullptr) tensor.name = directory.keep(name);
  });
}

// Writers differ in whether vectors, and the taps of the convolution, keep dimensions of one: [D, 1] is [D].
void drop_ones(EditedDirectory& file) {
  constexpr std::string_view kFlat[] = {"norm.weight", ".ssm_a", ".ssm_dt.bias", ".ffn_gate_inp_shexp.weight",
                                        ".ssm_conv1d.weight"};
  file.change_tensors([&](GgufTensor& tensor) {
    const auto ends = [&](std::string_view suffix) { return tensor.name.ends_with(suffix); };
    if (!std::any_of(std::begin(kFlat), std::end(kFlat), ends)) return;
    std::erase(tensor.shape, std::uint64_t{1});
    if (tensor.shape.empty()) tensor.shape.push_back(1);
  });
}

}  // namespace

ModelFile::ModelFile(const std::filesystem::path& path, GgufExtent extent)
    : file_(path, extent),
      directory_(std::make_shared<EditedDirectory>(file_)),
      kind_(kind_of(file_)),
      refusal_(kind_.refusal) {
  if (kind_.is_model()) translate();
}

void ModelFile::translate() {
  const std::string architecture(directory_->get_string("general.architecture").value());
  rename_dt_bias(*directory_, file_);
  try {
    translate_keys(*directory_, architecture);
  } catch (const FormatError& error) {
    refusal_ = error.what();
  }
  mark_padding(*directory_);
  directory_->move_tensors(is_vision, vision_);
  settle_mtp(*directory_, file_, architecture, broken_mtp_, notices_);
  drop_ones(*directory_);
  if (refusal_.empty()) refusal_ = refuse_types(*directory_);
}

const GgufTensor& ModelFile::tensor(std::string_view name) const {
  if (const GgufTensor* found = directory_->find(name)) return *found;
  return file_.tensor(name);
}

}  // namespace qwen35
