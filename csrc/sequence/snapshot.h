// A sequence as it stood at one moment. Immutable; costs the recurrent state and the tokens, the pages are only pinned.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <utility>
#include <variant>
#include <vector>

#include "model/model.h"
#include "sequence/content.h"
#include "sequence/pairs.h"
#include "sequence/state.h"

namespace qwen35 {

class Snapshot {
 public:
  // committed: of the content, the rows that cannot be taken back.
  Snapshot(std::shared_ptr<Model> model, Content content, std::size_t committed, PinnedPages pages,
           PinnedPages draft_pages, RecurrentState state)
      : model_(std::move(model)),
        content_(std::move(content)),
        committed_(committed),
        pages_(std::move(pages)),
        draft_pages_(std::move(draft_pages)),
        state_(std::move(state)) {}

  const Model& model() const noexcept { return *model_; }
  const std::shared_ptr<Model>& shared_model() const noexcept { return model_; }
  KvFormat format() const noexcept { return pages_.pool.spec().format; }
  const Content& content() const noexcept { return content_; }
  std::size_t committed() const noexcept { return committed_; }
  const PinnedPages& pages() const noexcept { return pages_; }
  const PinnedPages& draft_pages() const noexcept { return draft_pages_; }
  const RecurrentState& state() const noexcept { return state_; }
  std::size_t bytes() const noexcept { return state_.bytes() + content_.bytes(); }

  // ---- taken apart and put together again -------------------------------------------------------------------------
  // A page and how many of its positions the snapshot uses.
  struct UsedPage {
    Page page;
    std::size_t tokens;
  };
  // Every page it needs, by number, the plain form before the quantised one; those of the block that drafts come last.
  std::vector<UsedPage> parts() const;
  std::vector<std::byte> state_bytes() const;

  using Part = std::variant<Page, std::span<const std::byte>>;
  // Throws InputError when parts or state are not what parts() and state_bytes() of such a snapshot give.
  static std::shared_ptr<Snapshot> assemble(std::shared_ptr<Model> model, KvFormat format, Content content,
                                            std::size_t committed, std::span<const Part> parts,
                                            std::span<const std::byte> state);

 private:
  std::shared_ptr<Model> model_;
  Content content_;
  std::size_t committed_;
  PinnedPages pages_;
  PinnedPages draft_pages_;
  RecurrentState state_;
};

}  // namespace qwen35
