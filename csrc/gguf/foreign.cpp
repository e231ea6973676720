// Signatures are those of the formats' own descriptions.
#include "gguf/foreign.h"

#include <algorithm>
#include <cstring>
#include <string_view>

namespace qwen35 {
namespace {

using namespace std::string_view_literals;

constexpr const char* kUnpack = "a compressed file; unpack it, and give the GGUF that is in it";
constexpr const char* kOldModel =
    "a model in a format of 2023 that came before GGUF; no model of the family is so old: get a GGUF";
constexpr const char* kPage =
    "a web page, saved where a model was meant to be; download the file itself (its page has a link for that)";
constexpr const char* kBigEndian = "a GGUF for big-endian machines; get the usual, little-endian file of this model";
constexpr const char* kPointer =
    "a Git LFS pointer, which stands for a file that was not fetched; run `git lfs pull` in its repository";
constexpr const char* kZip =
    "a zip archive, as PyTorch checkpoints are; give a GGUF, or the folder of a checkpoint with *.safetensors";
constexpr const char* kPickle =
    "a Python pickle, as old PyTorch checkpoints are; give a GGUF, or the folder of a checkpoint with *.safetensors";

struct Signature {
  std::string_view bytes;
  const char* meaning;
};

constexpr Signature kSignatures[] = {
    {"FUGG"sv, kBigEndian},
    {"lmgg"sv, kOldModel},
    {"fmgg"sv, kOldModel},
    {"tjgg"sv, kOldModel},
    {"algg"sv, kOldModel},
    {"ggml"sv, kOldModel},
    {"ggjt"sv, kOldModel},
    {"PK\x03\x04"sv, kZip},
    {"PK\x05\x06"sv, kZip},
    {"\x1f\x8b"sv, kUnpack},
    {"\x28\xb5\x2f\xfd"sv, kUnpack},
    {"\xfd"
     "7zXZ\0"sv,
     kUnpack},
    {"BZh"sv, kUnpack},
    {"7z\xbc\xaf\x27\x1c"sv, kUnpack},
    {"Rar!\x1a\x07"sv, kUnpack},
    {"\x93NUMPY"sv, "a NumPy array; a model is expected, as a GGUF or a checkpoint folder"},
    {"\x89HDF\r\n\x1a\n"sv, "an HDF5 file; give a GGUF, or the folder of a checkpoint with *.safetensors"},
};

std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Behind a byte order mark and white space, where text may begin.
std::string_view trimmed(std::string_view text) {
  if (text.starts_with("\xef\xbb\xbf"sv)) text.remove_prefix(3);
  return text.substr(std::min(text.find_first_not_of(" \t\r\n"sv), text.size()));
}

// Eight bytes of length, little-endian, then a JSON object of that length; the file may be cut short.
bool is_safetensors(std::string_view text) {
  constexpr std::uint64_t kMostHeaderBytes = 100'000'000;  // as the format's own reader allows
  if (text.size() < 9) return false;
  std::uint64_t length = 0;
  for (std::size_t i = 8; i-- > 0;) length = length << 8 | static_cast<unsigned char>(text[i]);
  return length >= 2 && length <= kMostHeaderBytes && text[8] == '{';
}

// Protocol 2 or later; then, as a rule, a frame, a global, a dictionary or a tuple.
bool is_pickle(std::string_view text) {
  return text.size() > 2 && text[0] == '\x80' && text[1] >= 2 && text[1] <= 5 &&
         "\x95"
         "c}](\x8a"sv.find(text[2]) != std::string_view::npos;
}

bool is_text(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte >= 0x20 ? byte != 0x7f : c == '\t' || c == '\r' || c == '\n';
  });
}

}  // namespace

bool begins_as_gguf(std::span<const std::byte> beginning) noexcept { return as_text(beginning).starts_with("GGUF"sv); }

std::string describe_foreign(std::span<const std::byte> beginning) {
  constexpr std::size_t kLooked = 512;
  const std::string_view text = as_text(beginning.first(std::min(beginning.size(), kLooked)));
  for (const Signature& signature : kSignatures) {
    if (text.starts_with(signature.bytes)) return signature.meaning;
  }
  if (is_safetensors(text)) {
    return "the weights of a checkpoint (safetensors); give its folder, which has config.json, or a GGUF";
  }
  if (is_pickle(text)) return kPickle;
  const std::string_view words = trimmed(text);
  if (words.starts_with("version https://git-lfs"sv)) return kPointer;
  if (words.starts_with('<') && is_text(words)) return kPage;
  if (words.starts_with('{') || words.starts_with('[')) {
    return "JSON text: a part of a checkpoint, whose folder can be given, or a server's answer in place of a file that "
           "it does not give out; then download the model again, logged in where its repository asks for that";
  }
  if (std::all_of(text.begin(), text.end(), [](char c) { return c == 0; })) {
    return "it begins with zeros, as a download that is not finished does; get it again";
  }
  if (is_text(text)) return "it is text; a model is expected, as a GGUF or a checkpoint folder";
  return "it does not begin with \"GGUF\"; give a GGUF or a checkpoint folder";
}

}  // namespace qwen35
