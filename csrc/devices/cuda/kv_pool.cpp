#include "devices/cuda/kv_pool.h"

#include <cstring>

#include "base/error.h"

namespace qwen35::cuda {
namespace {

std::size_t element_bytes(KvFormat format) noexcept { return format == KvFormat::kF32 ? sizeof(float) : 2; }

// Codes of 8 or 4 bits, and a scale in fp16 for every 32 of them.
std::size_t code_bytes(std::size_t values, bool is_wide) noexcept {
  return values / (is_wide ? 1 : 2) + values / kBlockColumns * 2;
}

}  // namespace

std::size_t layer_bytes(KvFormat format, PageForm form, const AttentionShape& shape) noexcept {
  const std::size_t values = kPageTokens * shape.kv_heads * shape.width;
  if (form == PageForm::kPlain) return 2 * values * element_bytes(format);
  if (!is_quantised(format)) return 0;
  return code_bytes(values, format != KvFormat::kQ4) + code_bytes(values, format == KvFormat::kQ8);
}

KvLayer kv_layer(const AttentionShape& shape, std::uint32_t layer) noexcept {
  const auto at = [&](KvFormat format, PageForm form) { return layer * layer_bytes(format, form, shape); };
  return {{at(KvFormat::kF32, PageForm::kPlain), at(KvFormat::kF16, PageForm::kPlain)},
          {at(KvFormat::kQ8, PageForm::kQuantised), at(KvFormat::kQ4, PageForm::kQuantised),
           at(KvFormat::kK8V4, PageForm::kQuantised)},
          shape.kv_heads,
          shape.width};
}

CudaKvPool::CudaKvPool(const KvSpec& spec, Context& context, Memory& memory, Pages& pages)
    : spec_(spec), context_(context), memory_(memory), pages_(pages) {
  check_kv_width(spec.format, spec.shape.width);
}

PageId CudaKvPool::allocate(PageForm form) { return pages_.add({this, form}, memory_.take(page_bytes(form))); }

Pages::Place CudaKvPool::at(PageId page) const {
  const Pages::Place place = pages_.at(page);
  if (place.owner.pool != this) throw InputError("the page belongs to another pool of this device");
  return place;
}

void CudaKvPool::copy(PageId to, PageId from) {
  const Pages::Place a = at(to), b = at(from);
  if (a.owner.form != b.owner.form) throw InputError("a page cannot be copied into one of another form");
  context_.copy(address(a.data), address(b.data), page_bytes(a.owner.form));
}

void CudaKvPool::upload(PageId to, const std::byte* from) {
  const Pages::Place place = at(to);
  context_.upload(address(place.data), from, page_bytes(place.owner.form));
}

void CudaKvPool::download(std::byte* to, PageId from, std::size_t tokens) {
  const Pages::Place place = at(from);
  context_.download(to, address(place.data), page_bytes(place.owner.form));
  if (place.owner.form != PageForm::kPlain || tokens >= kPageTokens) return;
  // Keys and values of a head are [256, A].
  const std::size_t row = spec_.shape.width * element_bytes(spec_.format);
  for (std::size_t head = 0; head < std::size_t{2} * spec_.layers * spec_.shape.kv_heads; ++head) {
    std::memset(to + (head * kPageTokens + tokens) * row, 0, (kPageTokens - tokens) * row);
  }
}

}  // namespace qwen35::cuda
