// Reads a GGUF header. Every length is compared with the remaining bytes before it is used, so work and memory are
// bounded by the size of the file and the limit on headers, whatever the file claims.
#include "gguf/parser.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"
#include "gguf/foreign.h"
#include "gguf/split.h"

namespace qwen35 {
namespace {

// The headers of the family are ten megabytes at most: a vocabulary of 250,000 tokens, its merges, a template.
constexpr std::uint64_t kFirstRead = std::uint64_t{1} << 20;
constexpr std::uint64_t kMostRead = std::uint64_t{1} << 28;
constexpr std::uint64_t kMaxNameBytes = 65535;
constexpr std::uint32_t kMaxDims = 4;
constexpr std::uint64_t kDefaultAlignment = 32;
constexpr std::uint64_t kMinAlignment = 8;
constexpr std::uint64_t kMaxAlignment = 65536;

// The shortest records there can be: a key of one byte with a one-byte value, a tensor of one dimension.
constexpr std::uint64_t kMinValueBytes = 8 + 1 + 4 + 1;
constexpr std::uint64_t kMinTensorBytes = 8 + 1 + 4 + 8 + 4 + 8;

std::uint64_t width(GgufType type) noexcept {
  switch (type) {
    case GgufType::kU8:
    case GgufType::kI8:
    case GgufType::kBool:
      return 1;
    case GgufType::kU16:
    case GgufType::kI16:
      return 2;
    case GgufType::kU32:
    case GgufType::kI32:
    case GgufType::kF32:
      return 4;
    case GgufType::kU64:
    case GgufType::kI64:
    case GgufType::kF64:
      return 8;
    case GgufType::kString:
    case GgufType::kArray:
      break;
  }
  return 0;
}

// Keys and tensor names that print as what they are: no NUL alias, no control or bidirectional character.
bool is_printable_ascii(std::string_view name) noexcept {
  return std::all_of(name.begin(), name.end(), [](char c) { return c >= 0x20 && c <= 0x7e; });
}

std::string shape_text(const std::vector<std::uint64_t>& shape) {
  std::string text = "[";
  for (const std::uint64_t n : shape) text += (text.size() > 1 ? ", " : "") + std::to_string(n);
  return text + "]";
}

}  // namespace

std::string in_quotes(std::string_view name) {
  constexpr std::size_t kShown = 80;
  std::string text(1, '\'');
  text.append(name.substr(0, kShown)).append(name.size() > kShown ? "...'" : "'");
  return text;
}

GgufHeader read_header(const InputFile& file, GgufExtent extent) {
  std::vector<std::byte> read;
  for (std::uint64_t wanted = kFirstRead;; wanted *= 4) {
    const std::size_t before = read.size();
    read.resize(static_cast<std::size_t>(std::min({wanted, file.size(), kMostRead})));
    file.read(before, read.data() + before, read.size() - before);
    try {
      return GgufParser(file, extent, read).parse();
    } catch (const GgufParser::NeedsMore&) {
      if (wanted < kMostRead) continue;
      throw FormatError(file.path().string() + ": the header is longer than " + std::to_string(kMostRead >> 20) +
                        " MiB, which no model's is; the file is damaged");
    }
  }
}

void GgufParser::fail(const std::string& what) const { throw FormatError(file_.path().string() + ": " + what); }

void GgufParser::need(std::uint64_t bytes, const std::string& what) const {
  if (bytes <= static_cast<std::uint64_t>(end_ - at_)) return;
  if (bytes <= left()) throw NeedsMore{};
  fail(what + " at byte " + std::to_string(position()) + " needs " + std::to_string(bytes) + " bytes, but only " +
       std::to_string(left()) + " are left; the file is truncated or damaged");
}

template <class T>
T GgufParser::read(const char* what) {
  if (sizeof(T) > static_cast<std::size_t>(end_ - at_)) need(sizeof(T), what);
  T value;
  std::memcpy(&value, at_, sizeof value);
  at_ += sizeof value;
  return value;
}

std::string_view GgufParser::read_string(const char* what) {
  const auto length = read<std::uint64_t>(what);
  if (length > static_cast<std::uint64_t>(end_ - at_)) need(length, what);
  const std::string_view text(reinterpret_cast<const char*>(at_), static_cast<std::size_t>(length));
  at_ += length;
  return text;
}

std::string_view GgufParser::read_name(const char* what) {
  const std::string_view name = read_string(what);
  if (name.empty() || name.size() > kMaxNameBytes) {
    fail(std::string(what) + " of " + std::to_string(name.size()) + " bytes; 1 to " + std::to_string(kMaxNameBytes) +
         " are allowed; the file is damaged");
  }
  if (!is_printable_ascii(name)) {
    fail(std::string(what) + " before byte " + std::to_string(position()) +
         " is not printable ASCII; the file is damaged");
  }
  return name;
}

GgufHeader GgufParser::parse() {
  parse_version();
  const auto tensor_count = read<std::uint64_t>("tensor count");
  const auto value_count = read<std::uint64_t>("metadata count");
  if (value_count > left() / kMinValueBytes) {
    fail(std::to_string(value_count) + " metadata keys do not fit in a file of this size; it is truncated or damaged");
  }
  for (std::uint64_t i = 0; i < value_count; ++i) parse_value();
  index_values();
  if (tensor_count > left() / kMinTensorBytes) {
    fail(std::to_string(tensor_count) + " tensors do not fit in a file of this size; it is truncated or damaged");
  }
  if (tensor_count > std::numeric_limits<std::uint32_t>::max() / kMostParts) fail("too many tensors");
  for (std::uint64_t i = 0; i < tensor_count; ++i) parse_tensor();
  header_.bytes = position();
  const std::uint64_t alignment = read_alignment();
  if (extent_ == GgufExtent::kHeader) {
    for (GgufTensor& tensor : header_.tensors_) tensor.offset = 0;
  } else {
    place_tensors(alignment);
    reserve_regions();
  }
  header_.keep(begin_, static_cast<std::size_t>(header_.bytes));
  return std::move(header_);
}

void GgufParser::parse_version() {
  const std::span read(begin_, end_);
  if (!begins_as_gguf(read)) fail("not a GGUF file: " + describe_foreign(read));
  at_ += kMagicBytes;
  header_.version = this->read<std::uint32_t>("version");
  if (header_.version == 1)
    fail("a GGUF of version 1, of 2023; no model of the family is so old: get or convert it again");
  if ((header_.version & 0xffff) == 0) {
    fail("a GGUF for big-endian machines; get the usual, little-endian file of this model");
  }
  if (header_.version != 2 && header_.version != 3) {
    fail("GGUF version " + std::to_string(header_.version) + "; versions 2 and 3 are read");
  }
}

void GgufParser::parse_value() {
  GgufValue value;
  value.key_ = read_name("metadata key");
  auto type = read<std::uint32_t>("value type");
  value.is_array_ = type == static_cast<std::uint32_t>(GgufType::kArray);
  if (value.is_array_) {
    type = read<std::uint32_t>("array element type");
    value.count_ = read<std::uint64_t>("array length");
    if (type == static_cast<std::uint32_t>(GgufType::kArray)) {
      fail("key " + in_quotes(value.key_) + " is an array of arrays; arrays hold numbers, bools or strings");
    }
  }
  if (type > static_cast<std::uint32_t>(GgufType::kF64)) {
    fail("key " + in_quotes(value.key_) + " has unknown value type " + std::to_string(type));
  }
  value.type_ = static_cast<GgufType>(type);
  value.data_ = at_;
  skip_values(value);
  header_.values_.push_back(value);
}

// Moves past the value's bytes. Strings are checked here, so that later readers need not.
void GgufParser::skip_values(GgufValue& value) {
  const std::uint64_t smallest = value.type_ == GgufType::kString ? sizeof(std::uint64_t) : width(value.type_);
  if (value.count_ > left() / smallest) {
    fail("key " + in_quotes(value.key_) + ": " + std::to_string(value.count_) + " values of type " + name(value.type_) +
         " run past the end of the file (" + std::to_string(left()) + " bytes left); it is truncated or damaged");
  }
  if (value.type_ != GgufType::kString) {
    need(value.count_ * smallest, "array");
    at_ += value.count_ * smallest;
    return;
  }
  for (std::uint64_t i = 0; i < value.count_; ++i) {
    if (!is_utf8(read_string("string value"))) {
      fail("key " + in_quotes(value.key_) + ": string " + std::to_string(i) + " is not valid UTF-8");
    }
  }
}

void GgufParser::index_values() {
  const auto& values = header_.values_;
  if (values.size() > std::numeric_limits<std::uint32_t>::max()) fail("too many metadata keys");
  header_.index_values();
  const auto& index = header_.values_by_key_;
  for (std::size_t i = 1; i < index.size(); ++i) {
    if (values[index[i - 1]].key() == values[index[i]].key()) {
      fail("metadata key " + in_quotes(values[index[i]].key()) + " occurs twice");
    }
  }
}

std::uint64_t GgufParser::read_alignment() const {
  const GgufValue* value = header_.find_value("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  if (value->is_array() || value->type() != GgufType::kU32) fail("general.alignment is not a u32");
  const std::uint64_t alignment = value->uint();
  if (alignment < kMinAlignment || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
    fail("general.alignment is " + std::to_string(alignment) + "; a power of two from 8 to 65536 is expected");
  }
  return alignment;
}

void GgufParser::parse_tensor() {
  GgufTensor tensor{};
  tensor.name = read_name("tensor name");
  const std::string label = "tensor " + in_quotes(tensor.name);
  const auto dims = read<std::uint32_t>("number of dimensions");
  if (dims < 1 || dims > kMaxDims) fail(label + " has " + std::to_string(dims) + " dimensions; 1 to 4 are allowed");
  std::uint64_t values = 1;
  for (std::uint32_t i = 0; i < dims; ++i) {
    const auto n = read<std::uint64_t>("dimension");
    tensor.shape.push_back(n);
    if (n == 0) fail(label + " has a dimension of 0");
    if (n > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) / values) {
      fail(label + ": the product of dimensions " + shape_text(tensor.shape) + " overflows");
    }
    values *= n;
  }
  const auto number = read<std::uint32_t>("tensor type");
  tensor.dtype = static_cast<DType>(number);
  tensor.offset = read<std::uint64_t>("tensor offset");
  const DTypeInfo* type = find_dtype(number);
  if (type == nullptr) type = find_foreign_dtype(number);
  if (type != nullptr) {
    if (tensor.shape[0] % type->block != 0) {
      fail(label + ": rows of " + std::to_string(tensor.shape[0]) + " values are not whole " + type->name +
           " blocks of " + std::to_string(type->block));
    }
    const std::uint64_t blocks = values / type->block;
    const bool is_header = extent_ == GgufExtent::kHeader;
    const auto room = is_header ? std::uint64_t{std::numeric_limits<std::int64_t>::max()} : file_.size();
    if (blocks > room / type->block_bytes) {
      fail(label + ": " + shape_text(tensor.shape) + " of type " + type->name +
           " is larger than the file, which is truncated or damaged");
    }
    tensor.bytes = static_cast<std::size_t>(blocks * type->block_bytes);
  }
  header_.tensors_.push_back(std::move(tensor));
}

// Turns offsets in the data section into offsets in the file: aligned, and with all bytes inside.
void GgufParser::place_tensors(std::uint64_t alignment) {
  const std::uint64_t start = (header_.bytes + alignment - 1) / alignment * alignment;
  const std::uint64_t room = file_.size() > start ? file_.size() - start : 0;
  for (GgufTensor& tensor : header_.tensors_) {
    if (tensor.offset % alignment != 0) {
      fail("tensor " + in_quotes(tensor.name) + ": offset " + std::to_string(tensor.offset) + " is not a multiple of " +
           std::to_string(alignment));
    }
    if (tensor.offset > room || tensor.bytes > room - tensor.offset) {
      fail("tensor " + in_quotes(tensor.name) + ": " + std::to_string(tensor.bytes) + " bytes at offset " +
           std::to_string(tensor.offset) + " run past the end of the data section (" + std::to_string(room) +
           " bytes); the file is truncated or damaged");
    }
    tensor.offset += start;
  }
}

// Tensors must not overlap. One of unknown size extends to the next tensor.
void GgufParser::reserve_regions() {
  std::vector<GgufTensor*> by_place;
  by_place.reserve(header_.tensors_.size());
  for (GgufTensor& tensor : header_.tensors_) by_place.push_back(&tensor);
  std::sort(by_place.begin(), by_place.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (std::size_t i = 0; i < by_place.size(); ++i) {
    GgufTensor& tensor = *by_place[i];
    const bool is_last = i + 1 == by_place.size();
    const std::uint64_t limit = is_last ? std::max(file_.size(), tensor.offset) : by_place[i + 1]->offset;
    const auto reserved = static_cast<std::size_t>(limit - tensor.offset);
    if (tensor.bytes == 0) tensor.bytes = reserved;
    if (tensor.bytes > reserved || (reserved == 0 && !is_last)) {
      fail("tensor " + in_quotes(tensor.name) + " needs " + std::to_string(tensor.bytes) +
           " bytes, but the file reserves " + std::to_string(reserved) + " before tensor " +
           in_quotes(by_place[i + 1]->name));
    }
  }
}

}  // namespace qwen35
