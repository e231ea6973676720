#include "calibration/layer_pass.h"

#include <algorithm>
#include <string>

#include "base/error.h"
#include "model/forward.h"

namespace qwen35 {
namespace {

constexpr KvFormat kFormat = KvFormat::kF16;

// Rows of x, which lie `stride` floats apart on the device.
template <class Copy>
void each_row(Tensor x, Copy&& copy) {
  for (std::size_t row = 0; row < x.rows; ++row) copy((x.data + row * x.stride).as<std::byte>(), row * x.cols);
}

}  // namespace

LayerPass::LayerPass(Model& model, std::size_t texts, std::size_t length) : model_(model), length_(length) {
  auto device = model.lock_device();
  KvPool& pages = device.kv_pool(kFormat);
  places_.reserve(texts);
  for (std::size_t i = 0; i < texts; ++i) {
    Place& place = places_.emplace_back(Place{device.state_pool().allocate(), {}});
    for (std::size_t at = 0; at < length; at += kPageTokens) place.pages.push_back(pages.allocate(PageForm::kPlain));
  }
}

LayerPass::~LayerPass() {
  auto device = model_.lock_device();
  for (const Place& place : places_) {
    device.state_pool().free(place.state);
    for (const PageId page : place.pages) device.kv_pool(kFormat).free(page);
  }
}

void LayerPass::check(std::span<const Token> tokens, std::span<const float> x) const {
  const Config& config = model_.config();
  if (tokens.empty() || tokens.size() % length_ != 0 || tokens.size() > places_.size() * length_) {
    throw InputError(std::to_string(tokens.size()) + " tokens, expected 1 to " + std::to_string(places_.size()) +
                     " texts of " + std::to_string(length_));
  }
  if (x.size() != tokens.size() * config.hidden) {
    throw InputError(std::to_string(x.size()) + " values, expected " + std::to_string(tokens.size()) + " rows of " +
                     std::to_string(config.hidden));
  }
  for (const Token token : tokens) {
    if (token < 0 || static_cast<std::size_t>(token) >= config.vocabulary) {
      throw InputError("token " + std::to_string(token) + " is not in the vocabulary of " +
                       std::to_string(config.vocabulary));
    }
  }
}

void LayerPass::compose(std::span<const Token> tokens) {
  step_.clear();
  step_.tokens.assign(tokens.begin(), tokens.end());
  const auto count = static_cast<std::uint32_t>(length_);
  for (std::size_t text = 0; text < tokens.size() / length_; ++text) {
    const auto pages = static_cast<std::uint32_t>(step_.page_table.size());
    step_.segments.push_back({.first = static_cast<std::uint32_t>(text) * count,
                              .count = count,
                              .position = 0,
                              .committed = 0,
                              .certain = count,
                              .state = places_[text].state,
                              .format = kFormat,
                              .plain_pages = pages,
                              .quantised_pages = pages});
    step_.page_table.insert(step_.page_table.end(), places_[text].pages.begin(), places_[text].pages.end());
    for (std::int32_t t = 0; t < static_cast<std::int32_t>(length_); ++t) step_.positions.push_back({t, t, t});
  }
}

void LayerPass::run(std::span<const Token> tokens, std::span<float> x, ProductObserver* observer) {
  check(tokens, x);
  compose(tokens);
  auto device = model_.lock_device();
  Backend& ops = device.ops();
  const Activations s = device.reserve(step_.view(), 0);
  for (const StepSegment& segment : step_.segments) device.state_pool().clear(segment.state);
  const bool embeds = model_.weights().embedding != nullptr;
  const std::size_t bytes = s.x.cols * sizeof(float);
  if (!embeds) {
    each_row(s.x, [&](DevicePtr<std::byte> row, std::size_t at) {
      ops.upload(row, reinterpret_cast<const std::byte*>(x.data() + at), bytes);
    });
  }
  struct Shown {
    Backend& ops;
    ~Shown() { ops.show_products_to(nullptr); }
  } const shown{ops};
  ops.show_products_to(observer);
  ops.run(step_.view(), [&] {
    if (embeds) ops.embed(s.x, *model_.weights().embedding);
    forward_layers(ops, model_.weights(), model_.config(), model_.rope(), s);
  });
  each_row(s.x, [&](DevicePtr<std::byte> row, std::size_t at) {
    ops.download(reinterpret_cast<std::byte*>(x.data() + at), row, bytes);
  });
}

}  // namespace qwen35
