#include "devices/cuda/device_step.h"

#include <bit>
#include <cstring>

#include "base/round_up.h"

namespace qwen35::cuda {

// Where the arrays begin. Room is taken in powers of two, so that the addresses, which graphs hold, stay while a text
// grows.
struct DeviceStep::Layout {
  std::size_t tokens, positions, segment_of, segments, pages, outputs, inputs, bytes = 0;

  explicit Layout(const Step& step)
      : Layout(step.tokens.size(), step.segments.size(), step.outputs.size(), step.inputs.size(),
               step.page_table.size()) {}
  Layout(std::size_t rows, std::size_t segment_count, std::size_t output_count, std::size_t input_count,
         std::size_t page_count) {
    const auto array = [this](std::size_t count, std::size_t item) {
      const std::size_t at = bytes;
      bytes += round_up(std::bit_ceil(count + 1) * item, 256);
      return at;
    };
    tokens = array(rows, sizeof(int));
    positions = array(3 * rows, sizeof(int));
    segment_of = array(rows, sizeof(unsigned));
    segments = array(segment_count, sizeof(SegmentView));
    outputs = array(output_count, sizeof(unsigned));
    inputs = array(input_count, sizeof(InputRowView));
    pages = array(page_count, sizeof(Byte*));
  }
};

// Room grows to twice what did not fit.
std::size_t DeviceStep::bytes_of(std::size_t rows, std::size_t pages) {
  return 2 * Layout(rows, 1, rows, rows, pages).bytes;
}

DeviceStep::~DeviceStep() {
  if (copied_ != nullptr) opened_driver().functions.cuEventDestroy(copied_);
}

void DeviceStep::reserve(Context& context, Memory& memory, const Step& step) {
  places_.reserve(step);
  const std::size_t bytes = Layout(step).bytes;
  if (bytes <= bytes_) return;
  context.synchronize();  // a copy from the old room may be under way
  auto staged = std::make_unique<PinnedBuffer>(2 * bytes);
  memory_ = memory.take(2 * bytes);
  staged_ = std::move(staged);
  bytes_ = 2 * bytes;
  if (copied_ == nullptr) QWEN35_CUDA(cuEventCreate, &copied_, kEventDefault);
}

void DeviceStep::begin(Context& context, Memory& memory, const Step& step, const Pages& pages, const Slots& slots) {
  reserve(context, memory, step);
  places_.begin(step, pages, slots);
  QWEN35_CUDA(cuEventSynchronize, copied_);  // the last step has left the staging memory
  const Layout at(step);
  std::byte* to = staged_->data();
  const auto put = [to](std::size_t where, const void* from, std::size_t bytes) {
    if (bytes > 0) std::memcpy(to + where, from, bytes);
  };
  put(at.tokens, step.tokens.data(), step.tokens.size_bytes());
  static_assert(sizeof(Position) == 3 * sizeof(int) && sizeof(PageId) == sizeof(unsigned));
  put(at.positions, step.positions.data(), step.positions.size_bytes());
  put(at.outputs, step.outputs.data(), step.outputs.size_bytes());
  auto* segment_of = reinterpret_cast<unsigned*>(to + at.segment_of);
  auto* segments = reinterpret_cast<SegmentView*>(to + at.segments);
  for (unsigned i = 0; i < step.segments.size(); ++i) {
    const StepSegment& s = step.segments[i];
    segments[i] = {s.first,       s.count,           s.position,
                   s.committed,   s.certain,         static_cast<unsigned>(s.format),
                   s.plain_pages, s.quantised_pages, reinterpret_cast<Byte*>(places_.state(i).data)};
    for (unsigned t = s.first; t < s.first + s.count; ++t) segment_of[t] = i;
  }
  auto* table = reinterpret_cast<Byte**>(to + at.pages);
  for (std::size_t i = 0; i < step.page_table.size(); ++i) table[i] = reinterpret_cast<Byte*>(places_.pages()[i].data);
  auto* inputs = reinterpret_cast<InputRowView*>(to + at.inputs);
  for (std::size_t i = 0; i < step.inputs.size(); ++i)
    inputs[i] = {on_card(step.inputs[i].values), step.inputs[i].row, 0};

  const auto on = [this](std::size_t where) { return reinterpret_cast<Byte*>(memory_.get()) + where; };
  view_ = {.tokens = reinterpret_cast<const int*>(on(at.tokens)),
           .positions = reinterpret_cast<const int*>(on(at.positions)),
           .segment_of = reinterpret_cast<const unsigned*>(on(at.segment_of)),
           .segments = reinterpret_cast<const SegmentView*>(on(at.segments)),
           .pages = reinterpret_cast<Byte* const*>(on(at.pages)),
           .outputs = reinterpret_cast<const unsigned*>(on(at.outputs)),
           .inputs = reinterpret_cast<const InputRowView*>(on(at.inputs)),
           .rows = static_cast<unsigned>(step.tokens.size()),
           .segment_count = static_cast<unsigned>(step.segments.size()),
           .output_count = static_cast<unsigned>(step.outputs.size()),
           .input_count = static_cast<unsigned>(step.inputs.size())};
  QWEN35_CUDA(cuMemcpyHtoDAsync, address(memory_.get()), to, at.bytes, context.stream());
  QWEN35_CUDA(cuEventRecord, copied_, context.stream());
}

}  // namespace qwen35::cuda
