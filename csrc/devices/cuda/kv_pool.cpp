#include "devices/cuda/kv_pool.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <span>
#include <utility>

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

CudaKvPool::CudaKvPool(const KvSpec& spec, std::shared_ptr<Context> context, Memory& memory, Pages& pages)
    : spec_(spec), context_(std::move(context)), memory_(memory), pages_(pages) {
  check_kv_width(spec.format, spec.shape.width);
}

PageId CudaKvPool::allocate(PageForm form) {
  Piece memory = memory_.take(page_bytes(form));
  const std::scoped_lock lock(mutex_);
  is_settled_ = false;  // unless it is used
  return keep(form, false, std::move(memory));
}

PageId CudaKvPool::allocate_saved(PageForm form) {
  const std::scoped_lock lock(mutex_);
  return keep(form, true, saved(form).take());
}

PageId CudaKvPool::keep(PageForm form, bool is_saved, Piece memory) {
  const PageId page = pages_.add({this, form, is_saved}, std::move(memory));
  kept_.emplace(page, Kept{form, is_saved});
  return page;
}

SavedPieces& CudaKvPool::saved(PageForm form) {
  auto& pieces = saved_[static_cast<std::size_t>(form)];
  if (pieces == nullptr) pieces = std::make_shared<SavedPieces>(page_bytes(form), context_, memory_);
  return *pieces;
}

void CudaKvPool::free(PageId page) noexcept {
  const std::scoped_lock lock(mutex_);
  kept_.erase(page);
  pages_.remove(page);
}

void CudaKvPool::use(PageId page) {
  const std::scoped_lock lock(mutex_);
  Kept& kept = kept_.at(page);
  ++kept.uses;
  if (kept.is_misplaced()) is_settled_ = false;
}

void CudaKvPool::leave(PageId page) noexcept {
  const std::scoped_lock lock(mutex_);
  Kept& kept = kept_.find(page)->second;
  --kept.uses;
  if (kept.is_misplaced()) is_settled_ = false;
}

std::size_t CudaKvPool::saved_bytes() const {
  const std::scoped_lock lock(mutex_);
  std::size_t bytes = 0;
  for (const auto& [page, kept] : kept_) bytes += kept.uses == 0 ? page_bytes(kept.form) : 0;
  return bytes;
}

void CudaKvPool::settle() {
  const std::scoped_lock lock(mutex_);
  if (is_settled_) return;
  PagesByForm leaving, coming;
  for (const auto& [page, kept] : kept_) {
    if (kept.is_misplaced()) (kept.is_saved ? coming : leaving)[static_cast<std::size_t>(kept.form)].push_back(page);
  }
  is_settled_ = settle_pages(leaving, coming);
  for (const auto& pieces : saved_) {
    if (pieces != nullptr) pieces->trim();
  }
}

// One page of a form for another first, so that each finds the memory that the other leaves.
bool CudaKvPool::settle_pages(const PagesByForm& leaving, const PagesByForm& coming) {
  bool are_saved = true;
  std::array<std::size_t, kForms> pairs{};
  for (std::size_t form = 0; form < kForms; ++form) {
    pairs[form] = std::min(leaving[form].size(), coming[form].size());
    for (std::size_t i = 0; i < pairs[form]; ++i) {
      are_saved &= save(leaving[form][i]);
      bring_back(coming[form][i]);
    }
  }
  for (std::size_t form = 0; form < kForms; ++form) {
    for (const PageId page : std::span(leaving[form]).subspan(pairs[form])) are_saved &= save(page);
  }
  for (std::size_t form = 0; form < kForms; ++form) {
    for (const PageId page : std::span(coming[form]).subspan(pairs[form])) bring_back(page);
  }
  return are_saved;
}

bool CudaKvPool::save(PageId page) {
  Kept& kept = kept_.at(page);
  SavedPieces& pieces = saved(kept.form);
  Piece memory;
  try {
    memory = pieces.take();
  } catch (const std::bad_alloc&) {
    return false;
  }
  pieces.save(memory.get(), address(pages_.at(page).data));
  pages_.replace(page, {this, kept.form, true}, std::move(memory));
  kept.is_saved = true;
  return true;
}

void CudaKvPool::bring_back(PageId page) {
  Kept& kept = kept_.at(page);
  Piece memory = memory_.take(page_bytes(kept.form));
  saved(kept.form).restore(address(memory.get()), pages_.at(page).data);
  pages_.replace(page, {this, kept.form, false}, std::move(memory));
  kept.is_saved = false;
}

Pages::Place CudaKvPool::at(PageId page) const {
  const Pages::Place place = pages_.at(page);
  if (place.owner.pool != this) throw InputError("the page belongs to another pool of this device");
  return place;
}

CUdeviceptr CudaKvPool::on_card(const Pages::Place& place) const {
  if (place.owner.is_saved) throw InputError("the page lies where snapshots do, expected one that a sequence uses");
  return address(place.data);
}

void CudaKvPool::copy(PageId to, PageId from) {
  const Pages::Place a = at(to), b = at(from);
  if (a.owner.form != b.owner.form) throw InputError("a page cannot be copied into one of another form");
  context_->copy(on_card(a), on_card(b), page_bytes(a.owner.form));
}

void CudaKvPool::upload(PageId to, const std::byte* from) {
  const Pages::Place place = at(to);
  const std::size_t bytes = page_bytes(place.owner.form);
  if (!place.owner.is_saved) return context_->upload(address(place.data), from, bytes);
  saved(place.owner.form).settle();
  std::memcpy(place.data, from, bytes);
}

void CudaKvPool::download(std::byte* to, PageId from, std::size_t tokens) {
  const Pages::Place place = at(from);
  const std::size_t bytes = page_bytes(place.owner.form);
  if (place.owner.is_saved) {
    saved(place.owner.form).settle();
    std::memcpy(to, place.data, bytes);
  } else {
    context_->download(to, address(place.data), bytes);
  }
  if (place.owner.form != PageForm::kPlain || tokens >= kPageTokens) return;
  // Keys and values of a head are [256, A].
  const std::size_t row = spec_.shape.width * element_bytes(spec_.format);
  for (std::size_t head = 0; head < std::size_t{2} * spec_.layers * spec_.shape.kv_heads; ++head) {
    std::memset(to + (head * kPageTokens + tokens) * row, 0, (kPageTokens - tokens) * row);
  }
}

}  // namespace qwen35::cuda
