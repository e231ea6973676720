#include "sequence/snapshot.h"

#include <algorithm>
#include <string>

#include "base/error.h"

namespace qwen35 {
namespace {

// visit(form, number) for every page of so many positions, in the order of parts().
template <class Visit>
void each_page(const KvPool& pool, std::size_t tokens, std::size_t committed, Visit&& visit) {
  if (pool.spec().layers == 0) return;
  for (std::size_t i = 0; i * kPageTokens < tokens; ++i) {
    for (const PageForm form : {PageForm::kPlain, PageForm::kQuantised}) {
      if (pool.keeps(form, i, tokens, committed)) visit(form, i);
    }
  }
}

Page to_page(KvPool& pool, PageForm form, const Snapshot::Part& part) {
  if (const Page* page = std::get_if<Page>(&part)) {
    if (&(*page)->pool() == &pool && (*page)->form() == form) return *page;
    throw InputError("a page of a snapshot is of another model, kv or form, expected one of this model and kv");
  }
  const auto bytes = std::get<1>(part);
  if (bytes.size() != pool.page_bytes(form)) {
    throw InputError("a page of a snapshot has " + std::to_string(bytes.size()) + " bytes, expected " +
                     std::to_string(pool.page_bytes(form)));
  }
  auto page = std::make_shared<PageBuffer>(pool, form, true);
  pool.upload(page->page(), bytes.data());
  return page;
}

}  // namespace

std::vector<Snapshot::UsedPage> Snapshot::parts() const {
  std::vector<UsedPage> parts;
  const auto add = [&](const PinnedPages& pages, std::size_t tokens, std::size_t committed) {
    each_page(pages.pool, tokens, committed, [&](PageForm form, std::size_t i) {
      parts.push_back({(form == PageForm::kPlain ? pages.plain : pages.quantised)[i],
                       std::min(kPageTokens, tokens - i * kPageTokens)});
    });
  };
  add(pages_, content_.size(), committed_);
  add(draft_pages_, pairs(content_.size()), pairs(committed_));
  return parts;
}

std::vector<std::byte> Snapshot::state_bytes() const {
  std::vector<std::byte> bytes(state_.bytes());
  const auto device = model_->lock_device();
  state_.download(bytes.data());
  return bytes;
}

std::shared_ptr<Snapshot> Snapshot::assemble(std::shared_ptr<Model> model, KvFormat format, Content content,
                                             std::size_t committed, std::span<const Part> parts,
                                             std::span<const std::byte> state) {
  auto device = model->lock_device();
  KvPool &pool = device.kv_pool(format), &draft_pool = device.draft_pool(format);
  const std::size_t most = device.state_pool().spec().uncertain;
  if (committed > content.size() || content.size() - committed > most) {
    throw InputError("a snapshot of " + std::to_string(content.size()) + " tokens has committed " +
                     std::to_string(committed) + ", expected all but " + std::to_string(most) + " at most");
  }
  std::size_t expected = 0;
  const auto count = [&](PageForm, std::size_t) { ++expected; };
  each_page(pool, content.size(), committed, count);
  each_page(draft_pool, pairs(content.size()), pairs(committed), count);
  if (parts.size() != expected) {
    throw InputError("a snapshot of " + std::to_string(content.size()) + " tokens is given " +
                     std::to_string(parts.size()) + " pages, expected " + std::to_string(expected));
  }
  auto next = parts.begin();
  const auto keep = [&](KvPool& of, std::size_t tokens, std::size_t certain) {
    PinnedPages pages{of};
    each_page(of, tokens, certain, [&](PageForm form, std::size_t i) {
      std::vector<Page>& to = form == PageForm::kPlain ? pages.plain : pages.quantised;
      to.resize(i + 1);
      to[i] = to_page(of, form, *next++);
    });
    return pages;
  };
  PinnedPages kept = keep(pool, content.size(), committed);
  PinnedPages kept_for_drafts = keep(draft_pool, pairs(content.size()), pairs(committed));
  StatePool& states = device.state_pool();
  if (state.size() != states.slot_bytes()) {
    throw InputError("the recurrent state of a snapshot has " + std::to_string(state.size()) + " bytes, expected " +
                     std::to_string(states.slot_bytes()));
  }
  RecurrentState recurrent = RecurrentState::saved(states, state.data());
  device.ops().synchronize();
  return std::make_shared<Snapshot>(model, std::move(content), committed, std::move(kept), std::move(kept_for_drafts),
                                    std::move(recurrent));
}

}  // namespace qwen35
