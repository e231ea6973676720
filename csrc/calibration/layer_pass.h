// Texts through some layers of a model, each text from its first token: what calibration runs, layer after layer, so
// that no more than those layers need be in memory.
#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "backend/backend.h"
#include "backend/pools.h"
#include "model/model.h"

namespace qwen35 {

class LayerPass {
 public:
  // Of a model that was loaded in part, which outlives this; at most `texts` texts of `length` tokens at a time.
  LayerPass(Model& model, std::size_t texts, std::size_t length);
  ~LayerPass();
  LayerPass(const LayerPass&) = delete;
  LayerPass& operator=(const LayerPass&) = delete;

  // tokens [n length]. x [n length, D]: the rows that come into the first layer, which the model's first layer does not
  // read but embeds itself; then those that leave the last. Throws InputError for tokens that are not whole texts, or
  // more than there is room for, and for ids outside the vocabulary.
  void run(std::span<const Token> tokens, std::span<float> x, ProductObserver* observer);

  Model& model() const noexcept { return model_; }

 private:
  struct Place {
    SlotId state;
    std::vector<PageId> pages;
  };

  void check(std::span<const Token> tokens, std::span<const float> x) const;
  void compose(std::span<const Token> tokens);

  Model& model_;
  const std::size_t length_;
  std::vector<Place> places_;
  StepArrays step_;
};

}  // namespace qwen35
