// Pages of keys and values: those that sequences use on the card, the others in the host's memory. A page holds its
// layers one behind the other, each as pages.cuh says.
#pragma once

#include <array>
#include <cstddef>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "backend/pools.h"
#include "devices/cuda/kernel_args.h"
#include "devices/cuda/memory.h"
#include "devices/cuda/saved_pieces.h"
#include "devices/places.h"

namespace qwen35::cuda {

// Bytes of one layer of a page; 0 where the format has no such form.
std::size_t layer_bytes(KvFormat format, PageForm form, const AttentionShape& shape) noexcept;

// Where a layer lies in pages of every format.
KvLayer kv_layer(const AttentionShape& shape, std::uint32_t layer) noexcept;

class CudaKvPool final : public KvPool {
 public:
  // Throws InputError for heads that cannot be kept in this format.
  CudaKvPool(const KvSpec& spec, std::shared_ptr<Context> context, Memory& memory, Pages& pages);

  const KvSpec& spec() const noexcept override { return spec_; }
  std::size_t page_bytes(PageForm form) const noexcept override {
    return layer_bytes(spec_.format, form, spec_.shape) * spec_.layers;
  }
  bool keeps(PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) const noexcept override {
    return keeps_page(spec_.format, form, page, tokens, committed);
  }
  PageId allocate(PageForm form) override;
  PageId allocate_saved(PageForm form) override;
  void free(PageId page) noexcept override;
  void use(PageId page) override;
  void leave(PageId page) noexcept override;
  void settle() override;
  std::size_t saved_bytes() const override;
  void copy(PageId to, PageId from) override;
  void upload(PageId to, const std::byte* from) override;
  void download(std::byte* to, PageId from, std::size_t tokens) override;

 private:
  struct Kept {
    PageForm form;
    bool is_saved;
    unsigned uses = 0;

    bool is_misplaced() const noexcept { return is_saved == (uses > 0); }
  };
  static constexpr std::size_t kForms = 2;
  using PagesByForm = std::array<std::vector<PageId>, kForms>;

  Pages::Place at(PageId page) const;
  CUdeviceptr on_card(const Pages::Place& place) const;  // throws InputError for a saved one
  PageId keep(PageForm form, bool is_saved, Piece memory);
  SavedPieces& saved(PageForm form);
  bool settle_pages(const PagesByForm& leaving, const PagesByForm& coming);
  bool save(PageId page);  // no: the host has no memory either, and it stays
  void bring_back(PageId page);

  KvSpec spec_;
  std::shared_ptr<Context> context_;
  Memory& memory_;
  Pages& pages_;
  mutable std::mutex mutex_;  // of what follows, and of what lies under a number meanwhile
  std::map<PageId, Kept> kept_;
  bool is_settled_ = true;                                  // no page is misplaced
  std::array<std::shared_ptr<SavedPieces>, kForms> saved_;  // by form, made when first asked for
};

}  // namespace qwen35::cuda
