#include "gguf/split.h"

#include <string>
#include <system_error>

#include "base/error.h"

namespace qwen35 {
namespace {

constexpr std::size_t kDigits = 5;
constexpr std::size_t kSuffix = 1 + kDigits + 4 + kDigits + 5;  // "-00001-of-00003.gguf"

std::string five_digits(std::uint64_t number) {
  const std::string digits = std::to_string(number);
  return std::string(kDigits - digits.size(), '0') + digits;
}

// Parts are counted from 1 in names and in messages.
std::string suffix(std::uint64_t number, std::uint64_t count) {
  return "-" + five_digits(number + 1) + "-of-" + five_digits(count) + ".gguf";
}

std::string ordinal(std::uint64_t number, std::uint64_t count) {
  return "part " + std::to_string(number + 1) + " of " + std::to_string(count);
}

// The path of another part beside one that is called as a part; none when it is not.
std::optional<std::filesystem::path> sibling(const std::filesystem::path& path, std::uint64_t number,
                                             std::uint64_t count) {
  const auto& name = path.native();
  if (path.filename().native().size() < kSuffix) return std::nullopt;
  const std::size_t stem = name.size() - kSuffix;
  const std::string pattern = suffix(0, count);
  for (std::size_t i = 0; i < kSuffix; ++i) {
    const auto c = name[stem + i];
    const bool is_number = i >= 1 && i <= kDigits;
    if (is_number ? c < '0' || c > '9' : c != pattern[i]) return std::nullopt;
  }
  std::filesystem::path other(name.substr(0, stem));
  other += suffix(number, count);
  return other;
}

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(path, ignored);
}

// What the metadata have under the wrong type is said with the file's name.
template <class Read>
auto naming(const std::filesystem::path& path, const Read& read) {
  try {
    return read();
  } catch (const FormatError& error) {
    throw FormatError(path.string() + ": " + error.what());
  }
}

// What to open instead of a part that is not the first.
std::string advice(const std::filesystem::path& path, const std::optional<std::filesystem::path>& wanted,
                   std::uint64_t count) {
  const std::string ending = "the file whose name ends in " + suffix(0, count);
  if (!wanted) return "; open its first part instead, " + ending;
  if (wanted->native() == path.native()) return " under the name of the first; get the parts of one model again";
  if (is_there(*wanted)) return "; open its first part instead, " + wanted->string();
  return "; open its first part instead, " + wanted->filename().string() + ", which has to lie beside this file";
}

}  // namespace

std::optional<Split> Split::of(const GgufDirectory& first, const std::filesystem::path& path) {
  const auto count = naming(path, [&] { return first.get_uint("split.count").value_or(0); });
  if (count <= 1) return std::nullopt;
  const auto number = naming(path, [&] { return first.get_uint("split.no").value_or(0); });
  const Split split(first, path, count);
  if (count > kMostParts || number >= count) {
    split.fail("part " + std::to_string(number) + " (counted from 0) of " + std::to_string(count) +
               " is no part of a split model; up to " + std::to_string(kMostParts) + " parts are read");
  }
  const auto wanted = sibling(path, 0, count);
  if (number != 0) split.fail("this is " + ordinal(number, count) + " of a split model" + advice(path, wanted, count));
  if (!wanted || wanted->native() != path.native()) {
    split.fail("this is " + ordinal(0, count) +
               " of a split model under another name, so that the other parts cannot be found; call it " +
               (wanted ? wanted->filename().string() : "NAME" + suffix(0, count)) + ", with the others' NAME");
  }
  return split;
}

void Split::fail(const std::string& what) const { throw FormatError(path_.string() + ": " + what); }

std::filesystem::path Split::find(std::uint64_t number) const {
  std::filesystem::path wanted = *sibling(path_, number, count_);
  if (!is_there(wanted)) {
    fail(ordinal(number, count_) + " is missing: " + wanted.filename().string() +
         " has to lie beside this file; get it as well");
  }
  return wanted;
}

void Split::check(const GgufDirectory& part, const std::filesystem::path& path, std::uint64_t number) const {
  const auto differ = [&](const std::string& what) {
    throw FormatError(what + ", and " + ordinal(number, count_) + " of " + path_.filename().string() +
                      " is expected; get the parts of one model again");
  };
  naming(path, [&] {
    const auto no = part.get_uint("split.no"), count = part.get_uint("split.count");
    if (!no || !count) return differ("this is no part of a split model");
    if (*no != number || *count != count_) {
      differ("this is " + ordinal(*no, *count));
    }
    for (const char* key : {"split.tensors.count", "general.alignment"}) {
      const auto here = part.get_uint(key);
      if (here && here != first_.get_uint(key)) {
        differ(std::string(key) + " is " + std::to_string(*here) + ", not as in the first part");
      }
    }
    const auto architecture = part.get_string("general.architecture");
    if (architecture && architecture != first_.get_string("general.architecture")) {
      differ("this is a part of a model of another architecture");
    }
  });
}

void Split::check_tensors(std::size_t found) const {
  const auto announced = naming(path_, [&] { return first_.get_uint("split.tensors.count"); });
  if (!announced || *announced == found) return;
  fail(std::to_string(*announced) + " tensors are announced (split.tensors.count) and the " + std::to_string(count_) +
       " parts have " + std::to_string(found) + "; get the parts of one model again");
}

}  // namespace qwen35
