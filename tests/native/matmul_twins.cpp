// quantise_rows, silu_multiply and the panel products of every format at ragged shapes.
#include <algorithm>
#include <utility>

#include "devices/cpu/matmul_kernels.h"
#include "devices/cpu/panels.h"
#include "twins.h"

namespace qwen35::twins {
namespace {

using cpu::QuantisedBlock;

#define QWEN35_NAME(name) "panel_matmul " #name,
#define QWEN35_TILE_NAME(name) "tile_matmul " #name,
constexpr const char* kNames[kPanelFormats] = {QWEN35_PANEL_FORMATS(QWEN35_NAME)};
constexpr const char* kTileNames[kPanelFormats] = {QWEN35_PANEL_FORMATS(QWEN35_TILE_NAME)};
#undef QWEN35_NAME
#undef QWEN35_TILE_NAME

// Blocks of very different size; some of zeros, some whose codes are all extreme, some not numbers.
std::vector<float> activations(Random& random, std::size_t rows, std::size_t cols, bool has_damage) {
  std::vector<float> x(rows * cols);
  for (std::size_t first = 0; first < x.size(); first += 32) {
    const float scale = std::ldexp(1.0f, static_cast<int>(random.between(0, 12)) - 6);
    const std::size_t kind = random.between(0, 9);
    for (std::size_t i = first; i < first + 32 && i < x.size(); ++i) {
      x[i] = kind == 0 ? 0.0f : random.uniform(-scale, scale);
      if (kind == 1) x[i] = x[i] < 0.0f ? -scale : scale;
    }
    if (has_damage && kind == 2) x[first] = std::nanf("");
    if (has_damage && kind == 3) x[first] = -HUGE_VALF;
    if (has_damage && kind == 4) x[first] = 0x1p-120f;
  }
  return x;
}

template <std::size_t n>
void fill(Random& random, std::uint16_t (&halves)[n]) noexcept {
  for (std::uint16_t& half : halves) half = float_to_half(random.uniform(-0.02f, 0.02f));
}

template <std::size_t n>
void fill(Random& random, float (&values)[n]) noexcept {
  for (float& value : values) value = random.uniform(-0.02f, 0.02f);
}

// Every code as likely as any other, the extremes among them.
template <PanelFormat kFormat>
std::vector<typename cpu::PanelReader<kFormat>::Unit> panel(Random& random, std::size_t units) {
  using Unit = typename cpu::PanelReader<kFormat>::Unit;
  std::vector<Unit> panel(units);
  for (Unit& unit : panel) {
    auto* bytes = reinterpret_cast<unsigned char*>(&unit);
    for (std::size_t i = 0; i < sizeof unit; ++i) bytes[i] = static_cast<unsigned char>(random.bits() >> 24);
    if constexpr (kFormat == PanelFormat::kBF16) {
      for (std::uint16_t& value : unit.values) value = float_to_bf16(random.uniform(-1.0f, 1.0f));
    } else if constexpr (kFormat == PanelFormat::kF32 || kFormat == PanelFormat::kF16) {
      fill(random, unit.values);
    } else if constexpr (kFormat == PanelFormat::kLevels) {
      for (auto& half : unit.scale) fill(random, half);
    } else if constexpr (kFormat == PanelFormat::kAffine) {
      for (auto& half : unit.scale) fill(random, half);
      for (auto& half : unit.min) fill(random, half);
    } else {
      fill(random, unit.scale);
      if constexpr (requires { unit.min; }) fill(random, unit.min);
    }
  }
  return panel;
}

template <PanelFormat kFormat>
void compare_panel(Comparison& c, Random& random, std::size_t rows) {
  using Reader = cpu::PanelReader<kFormat>;
  constexpr std::size_t kFormatIndex = static_cast<std::size_t>(kFormat);
  const std::size_t units = random.between(1, Reader::kColumns == 1 ? 70 : 3), cols = units * Reader::kColumns;
  const std::size_t live = random.between(0, 2) == 0 ? kPanelRows : random.between(1, kPanelRows);
  const std::size_t first = random.between(0, 3), stride = first + kPanelRows + 1;
  const auto weights = panel<kFormat>(random, units);
  const auto x = activations(random, rows, cols, false);
  const std::size_t blocks = cols / 32;
  std::vector<QuantisedBlock> quantised(rows * blocks);
  if (cpu::quantises_input(kFormat)) c.twin.matmul.quantise_rows(quantised.data(), x.data(), rows * blocks);

  const std::vector<float> before = random.floats(rows * stride);
  std::vector<float> results[2] = {before, before};
  for (int side = 0; side < 2; ++side) {
    std::vector<const QuantisedBlock*> quantised_rows;
    std::vector<const float*> exact_rows;
    std::vector<float*> out_rows;
    for (std::size_t i = 0; i < rows; ++i) {
      quantised_rows.push_back(quantised.data() + i * blocks);
      exact_rows.push_back(x.data() + i * cols);
      out_rows.push_back(results[side].data() + i * stride);
    }
    const cpu::PanelArgs args{.panel = reinterpret_cast<const std::byte*>(weights.data()),
                              .cols = cols,
                              .live = live,
                              .rows = rows,
                              .quantised = quantised_rows.data(),
                              .exact = exact_rows.data(),
                              .out = out_rows.data(),
                              .out_first = first,
                              .adds = rows % 2 == 0,
                              .prefetches = rows % 3 != 0};
    (side == 0 ? c.ours : c.twin).matmul.panel_matmul[kFormatIndex](args);
  }
  c.same(kNames[kFormatIndex], results[0], results[1]);
}

// The products of interleaved rows against the twin's of the rows themselves: more rows than a pass takes, more blocks
// than a chunk holds.
template <PanelFormat kFormat>
void compare_tiles(Comparison& c, Random& random, std::size_t rows) {
  using Reader = cpu::PanelReader<kFormat>;
  constexpr std::size_t kFormatIndex = static_cast<std::size_t>(kFormat);
  auto* tile_matmul = c.ours.matmul.tile_matmul[kFormatIndex];
  if (tile_matmul == nullptr) return;
  const std::size_t units = random.between(1, 1024 / Reader::kColumns), cols = units * Reader::kColumns;
  const std::size_t live = random.between(0, 2) == 0 ? kPanelRows : random.between(1, kPanelRows);
  const std::size_t first = random.between(0, 3), stride = first + kPanelRows + 1, blocks = cols / 32;
  const auto weights = panel<kFormat>(random, units);
  const auto x = activations(random, rows, cols, true);
  std::vector<QuantisedBlock> quantised(rows * blocks);
  c.twin.matmul.quantise_rows(quantised.data(), x.data(), rows * blocks);
  std::vector<float> got = random.floats(rows * stride), expected = got;
  std::vector<const QuantisedBlock*> quantised_rows;
  std::vector<float*> got_rows, expected_rows;
  for (std::size_t i = 0; i < rows; ++i) {
    quantised_rows.push_back(quantised.data() + i * blocks);
    got_rows.push_back(got.data() + i * stride);
    expected_rows.push_back(expected.data() + i * stride);
  }
  const std::size_t groups = (rows + cpu::kTileTokens - 1) / cpu::kTileTokens;
  std::vector<cpu::QuantisedTile> tiles(groups * blocks);
  for (std::size_t g = 0; g < groups; ++g) {
    const std::size_t at = g * cpu::kTileTokens, count = std::min(cpu::kTileTokens, rows - at);
    c.ours.matmul.interleave_rows(tiles.data() + g * blocks, quantised_rows.data() + at, count, blocks);
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(weights.data());
  const bool adds = rows % 2 == 0;
  tile_matmul({bytes, cols, live, rows, tiles.data(), got_rows.data(), first, adds});
  c.twin.matmul.panel_matmul[kFormatIndex](
      {bytes, cols, live, rows, quantised_rows.data(), nullptr, expected_rows.data(), first, adds, false});
  c.same(kTileNames[kFormatIndex], got, expected);
}

template <std::size_t... kFormats>
void compare_panels(Comparison& c, Random& random, std::index_sequence<kFormats...>) {
  for (std::size_t rows = 1; rows <= 14; ++rows) {
    for (int round = 0; round < 6; ++round) {
      (compare_panel<static_cast<PanelFormat>(kFormats)>(c, random, rows), ...);
    }
  }
  for (const std::size_t rows : {1, 2, 7, 15, 16, 17, 32, 50, 192, 195}) {
    (compare_tiles<static_cast<PanelFormat>(kFormats)>(c, random, rows), ...);
  }
}

void compare_quantised(Comparison& c, Random& random) {
  for (std::size_t blocks = 1; blocks < 200; ++blocks) {
    const auto x = activations(random, blocks, 32, true);
    std::vector<QuantisedBlock> got(blocks), expected(blocks);
    c.ours.matmul.quantise_rows(got.data(), x.data(), blocks);
    c.twin.matmul.quantise_rows(expected.data(), x.data(), blocks);
    c.same_bytes("quantise_rows", got, expected);
  }
}

}  // namespace

void compare_matmul(Comparison& c) {
  Random random(1);
  compare_quantised(c, random);
  compare_panels(c, random, std::make_index_sequence<kPanelFormats>());
  for (std::size_t count = 1; count < 70; ++count) {
    const auto gate = random.floats(count, 110.0f), up = random.floats(count);
    std::vector<float> got(count), expected(count);
    c.ours.matmul.silu_multiply(got.data(), gate.data(), up.data(), count);
    c.twin.matmul.silu_multiply(expected.data(), gate.data(), up.data(), count);
    c.same("silu_multiply", got, expected);
  }
}

}  // namespace qwen35::twins
