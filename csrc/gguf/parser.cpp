// Reads a GGUF header. Every length is compared with the bytes that are left before it is used, so work and memory are
// bounded by the size of the file whatever the file claims.
#include "gguf/parser.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/error.h"

namespace qwen35 {
namespace {

constexpr std::uint32_t kMagic = 0x46554747;  // "GGUF"
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

std::string quoted(std::string_view name) {
  constexpr std::size_t kShown = 80;
  std::string text(1, '\'');
  text.append(name.substr(0, kShown)).append(name.size() > kShown ? "...'" : "'");
  return text;
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

void GgufParser::fail(const std::string& what) const { throw FormatError(gguf_.path().string() + ": " + what); }

void GgufParser::need(std::uint64_t bytes, const std::string& what) const {
  if (bytes <= left()) return;
  fail(what + " at byte " + std::to_string(at_ - begin_) + " needs " + std::to_string(bytes) + " bytes, but only " +
       std::to_string(left()) + " are left; the file is truncated or damaged");
}

template <class T>
T GgufParser::read(const char* what) {
  if (sizeof(T) > left()) need(sizeof(T), what);
  T value;
  std::memcpy(&value, at_, sizeof value);
  at_ += sizeof value;
  return value;
}

std::string_view GgufParser::read_string(const char* what) {
  const auto length = read<std::uint64_t>(what);
  if (length > left()) need(length, what);
  const std::string_view text(reinterpret_cast<const char*>(at_), static_cast<std::size_t>(length));
  at_ += length;
  return text;
}

std::string_view GgufParser::read_name(const char* what) {
  const std::string_view name = read_string(what);
  if (name.empty() || name.size() > kMaxNameBytes) {
    fail(std::string(what) + " of " + std::to_string(name.size()) + " bytes; 1 to " + std::to_string(kMaxNameBytes) +
         " are allowed");
  }
  if (!is_printable_ascii(name)) {
    fail(std::string(what) + " before byte " + std::to_string(at_ - begin_) + " is not printable ASCII");
  }
  return name;
}

void GgufParser::parse() {
  if (read<std::uint32_t>("magic") != kMagic) fail("not a GGUF file (it does not begin with \"GGUF\")");
  gguf_.version_ = read<std::uint32_t>("version");
  if ((gguf_.version_ & 0xffff) == 0) fail("a big-endian GGUF; only little-endian files are read");
  if (gguf_.version_ != 2 && gguf_.version_ != 3) {
    fail("GGUF version " + std::to_string(gguf_.version_) + "; versions 2 and 3 are read");
  }
  const auto tensor_count = read<std::uint64_t>("tensor count");
  const auto value_count = read<std::uint64_t>("metadata count");
  if (value_count > left() / kMinValueBytes) {
    fail(std::to_string(value_count) + " metadata keys do not fit in a file of this size");
  }
  for (std::uint64_t i = 0; i < value_count; ++i) parse_value();
  index_values();
  refuse_shards();
  if (tensor_count > left() / kMinTensorBytes) {
    fail(std::to_string(tensor_count) + " tensors do not fit in a file of this size");
  }
  for (std::uint64_t i = 0; i < tensor_count; ++i) parse_tensor();
  index_tensors();
  const std::uint64_t alignment = read_alignment();
  if (extent_ == GgufExtent::kHeader) return;
  place_tensors(alignment);
  reserve_regions();
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
      fail("key " + quoted(value.key_) + " is an array of arrays; arrays hold numbers, bools or strings");
    }
  }
  if (type > static_cast<std::uint32_t>(GgufType::kF64)) {
    fail("key " + quoted(value.key_) + " has unknown value type " + std::to_string(type));
  }
  value.type_ = static_cast<GgufType>(type);
  value.data_ = at_;
  skip_values(value);
  gguf_.values_.push_back(value);
}

// Moves past the value's bytes. Strings are checked one by one, so that whoever walks them later need not.
void GgufParser::skip_values(GgufValue& value) {
  const std::uint64_t smallest = value.type_ == GgufType::kString ? sizeof(std::uint64_t) : width(value.type_);
  if (value.count_ > left() / smallest) {
    fail("key " + quoted(value.key_) + ": " + std::to_string(value.count_) + " values of type " + name(value.type_) +
         " run past the end of the file (" + std::to_string(left()) + " bytes left)");
  }
  if (value.type_ != GgufType::kString) {
    at_ += value.count_ * smallest;
    return;
  }
  for (std::uint64_t i = 0; i < value.count_; ++i) {
    if (!is_utf8(read_string("string value"))) {
      fail("key " + quoted(value.key_) + ": string " + std::to_string(i) + " is not valid UTF-8");
    }
  }
}

void GgufParser::index_values() {
  const auto& values = gguf_.values_;
  if (values.size() > std::numeric_limits<std::uint32_t>::max()) fail("too many metadata keys");
  gguf_.index_values();
  const auto& index = gguf_.values_by_key_;
  for (std::size_t i = 1; i < index.size(); ++i) {
    if (values[index[i - 1]].key() == values[index[i]].key()) {
      fail("metadata key " + quoted(values[index[i]].key()) + " occurs twice");
    }
  }
}

std::uint64_t GgufParser::read_alignment() const {
  const GgufValue* value = gguf_.find_value("general.alignment");
  if (value == nullptr) return kDefaultAlignment;
  if (value->is_array() || value->type() != GgufType::kU32) fail("general.alignment is not a u32");
  const std::uint64_t alignment = value->uint();
  if (alignment < kMinAlignment || alignment > kMaxAlignment || (alignment & (alignment - 1)) != 0) {
    fail("general.alignment is " + std::to_string(alignment) + "; a power of two from 8 to 65536 is expected");
  }
  return alignment;
}

void GgufParser::refuse_shards() const {
  const auto shards = gguf_.get_uint("split.count");
  if (!shards || *shards <= 1) return;
  const std::uint64_t number = gguf_.get_uint("split.no").value_or(0);
  fail("this is part " + std::to_string(number) + " (counted from 0) of a model split into " + std::to_string(*shards) +
       " files; merge them into one first, for instance with `llama-gguf-split --merge`");
}

void GgufParser::parse_tensor() {
  GgufTensor tensor{};
  tensor.name = read_name("tensor name");
  const std::string label = "tensor " + quoted(tensor.name);
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
  offsets_.push_back(read<std::uint64_t>("tensor offset"));
  const DTypeInfo* type = find_dtype(number);
  if (type == nullptr) type = find_foreign_dtype(number);
  if (type != nullptr) {
    if (tensor.shape[0] % type->block != 0) {
      fail(label + ": rows of " + std::to_string(tensor.shape[0]) + " values are not whole " + type->name +
           " blocks of " + std::to_string(type->block));
    }
    const std::uint64_t blocks = values / type->block;
    const bool is_header = extent_ == GgufExtent::kHeader;
    const auto room =
        is_header ? std::uint64_t{std::numeric_limits<std::int64_t>::max()} : static_cast<std::uint64_t>(end_ - begin_);
    if (blocks > room / type->block_bytes) {
      fail(label + ": " + shape_text(tensor.shape) + " of type " + type->name + " is larger than the file");
    }
    tensor.bytes = static_cast<std::size_t>(blocks * type->block_bytes);
  }
  gguf_.tensors_.push_back(std::move(tensor));
}

void GgufParser::index_tensors() {
  const auto& tensors = gguf_.tensors_;
  if (tensors.size() > std::numeric_limits<std::uint32_t>::max()) fail("too many tensors");
  gguf_.index_tensors();
  const auto& index = gguf_.tensors_by_name_;
  for (std::size_t i = 1; i < index.size(); ++i) {
    if (tensors[index[i - 1]].name == tensors[index[i]].name) {
      fail("tensor " + quoted(tensors[index[i]].name) + " occurs twice");
    }
  }
}

// Turns offsets into addresses: aligned, and with all bytes inside the file.
void GgufParser::place_tensors(std::uint64_t alignment) {
  const std::uint64_t header = static_cast<std::uint64_t>(at_ - begin_);
  const std::uint64_t start = (header + alignment - 1) / alignment * alignment;
  const std::uint64_t size = static_cast<std::uint64_t>(end_ - begin_);
  const std::uint64_t room = size > start ? size - start : 0;
  for (std::size_t i = 0; i < gguf_.tensors_.size(); ++i) {
    GgufTensor& tensor = gguf_.tensors_[i];
    const std::uint64_t offset = offsets_[i];
    if (offset % alignment != 0) {
      fail("tensor " + quoted(tensor.name) + ": offset " + std::to_string(offset) + " is not a multiple of " +
           std::to_string(alignment));
    }
    if (offset > room || tensor.bytes > room - offset) {
      fail("tensor " + quoted(tensor.name) + ": " + std::to_string(tensor.bytes) + " bytes at offset " +
           std::to_string(offset) + " run past the end of the data section (" + std::to_string(room) +
           " bytes); the file is truncated or damaged");
    }
    tensor.data = begin_ + start + offset;
  }
}

// No tensor may read another's bytes. One of unknown size owns what lies before the next tensor.
void GgufParser::reserve_regions() {
  std::vector<GgufTensor*> by_place;
  by_place.reserve(gguf_.tensors_.size());
  for (GgufTensor& tensor : gguf_.tensors_) by_place.push_back(&tensor);
  std::sort(by_place.begin(), by_place.end(),
            [](const GgufTensor* a, const GgufTensor* b) { return a->data < b->data; });
  for (std::size_t i = 0; i < by_place.size(); ++i) {
    GgufTensor& tensor = *by_place[i];
    const std::byte* limit = i + 1 < by_place.size() ? by_place[i + 1]->data : end_;
    const auto reserved = static_cast<std::size_t>(limit - tensor.data);
    if (tensor.bytes == 0) tensor.bytes = reserved;
    if (tensor.bytes > reserved || (reserved == 0 && limit != end_)) {
      fail("tensor " + quoted(tensor.name) + " needs " + std::to_string(tensor.bytes) +
           " bytes, but the file reserves " + std::to_string(reserved) + " before tensor " +
           quoted(by_place[i + 1]->name));
    }
  }
}

}  // namespace qwen35
