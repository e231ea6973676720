// Pages of keys and values on the card. A page holds its layers one behind the other, each as pages.cuh says.
#pragma once

#include <cstddef>

#include "backend/pools.h"
#include "devices/cuda/kernel_args.h"
#include "devices/cuda/memory.h"
#include "devices/places.h"

namespace qwen35::cuda {

// Bytes of one layer of a page; 0 where the format has no such form.
std::size_t layer_bytes(KvFormat format, PageForm form, const AttentionShape& shape) noexcept;

// Where a layer lies in pages of every format.
KvLayer kv_layer(const AttentionShape& shape, std::uint32_t layer) noexcept;

class CudaKvPool final : public KvPool {
 public:
  // Throws InputError for heads that cannot be kept in this format.
  CudaKvPool(const KvSpec& spec, Context& context, Memory& memory, Pages& pages);

  const KvSpec& spec() const noexcept override { return spec_; }
  std::size_t page_bytes(PageForm form) const noexcept override {
    return layer_bytes(spec_.format, form, spec_.shape) * spec_.layers;
  }
  bool keeps(PageForm form, std::size_t page, std::size_t tokens, std::size_t committed) const noexcept override {
    return keeps_page(spec_.format, form, page, tokens, committed);
  }
  PageId allocate(PageForm form) override;
  void free(PageId page) noexcept override { pages_.remove(page); }
  void copy(PageId to, PageId from) override;
  void upload(PageId to, const std::byte* from) override;
  void download(std::byte* to, PageId from, std::size_t tokens) override;

 private:
  Pages::Place at(PageId page) const;

  KvSpec spec_;
  Context& context_;
  Memory& memory_;
  Pages& pages_;
};

}  // namespace qwen35::cuda
