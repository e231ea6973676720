// Panels times sixteen rows of activations at once, by AMX: one instruction multiplies sixteen rows of 8-bit
// activations with sixteen rows of weights over a block of columns. Integer sums of a block are exact, and what follows
// them is the reference kernel's sequence, so results have its bits.
//
// A panel is unpacked to bytes once for all activation rows of a call, kChunk blocks at a time; one thread's chunk and
// the tiles it meets stay in the first- and second-level caches.
#include "devices/cpu/amx/tiles.h"
#include "devices/cpu/avx512/integers.h"

namespace qwen35::cpu {
namespace {

using V = Avx512Integers;

constexpr std::size_t kLanes = 16;                   // rows of weights in a tile
constexpr std::size_t kSteps = kPanelRows / kLanes;  // tiles across a panel
constexpr std::size_t kChunk = 16;                   // blocks of 32 columns
constexpr std::size_t kMostRows = 12 * kTileTokens;  // activation rows whose sums wait on the stack
constexpr std::size_t kLag = 4;
constexpr std::size_t kQuads = kQuantisedColumns / 4;  // groups of four columns in a block

// ---- the tile registers: results 0, activations 1, weights 2; 3 and 4 for half a block ------------------------------

constexpr TileShapes kShapes{.row_bytes = {64, 32, 64, 16, 64}, .rows = {16, 16, 8, 16, 4}};

// The memory clobbers keep the compiler from moving stores to what a tile is loaded from, or loads from what it is
// stored to, across.
template <int kTile>
void load_tile(const void* from, std::size_t stride) noexcept {
  if constexpr (kTile == 1) asm volatile("tileloadd (%0,%1,1), %%tmm1" ::"r"(from), "r"(stride) : "memory");
  if constexpr (kTile == 2) asm volatile("tileloadd (%0,%1,1), %%tmm2" ::"r"(from), "r"(stride) : "memory");
  if constexpr (kTile == 3) asm volatile("tileloadd (%0,%1,1), %%tmm3" ::"r"(from), "r"(stride) : "memory");
  if constexpr (kTile == 4) asm volatile("tileloadd (%0,%1,1), %%tmm4" ::"r"(from), "r"(stride) : "memory");
}

// to = activations . weights over some columns of a block.
template <std::size_t kColumns>
void multiply(std::int32_t (*to)[kLanes], const QuantisedTile& x, const std::uint8_t* weights) noexcept {
  if constexpr (kColumns == kAll) {
    load_tile<1>(x.codes, kQuantisedColumns);
    load_tile<2>(weights, 64);
    asm volatile("tilezero %%tmm0\n\ttdpbssd %%tmm2, %%tmm1, %%tmm0" ::: "memory");
  } else {
    load_tile<3>(x.codes[0] + 16 * kColumns, kQuantisedColumns);
    load_tile<4>(weights + kColumns * 4 * 64, 64);
    asm volatile("tilezero %%tmm0\n\ttdpbssd %%tmm4, %%tmm3, %%tmm0" ::: "memory");
  }
  asm volatile("tilestored %%tmm0, (%0,%1,1)" ::"r"(to), "r"(std::size_t{64}) : "memory");
}

// ---- a chunk of a panel, unpacked
// ------------------------------------------------------------------------------------

template <class Format>
struct Chunk {
  static constexpr std::size_t kHalves = Format::kHasHalves ? 2 : 1;
  static constexpr std::size_t kMinHalves = Format::kHasMins ? kHalves : 1;

  alignas(64) std::uint8_t codes[kSteps][kChunk][kQuads][64];  // signed; four columns of a row to a lane
  alignas(64) float scale[kSteps][kChunk][kHalves][kLanes];
  alignas(64) float min[kSteps][kChunk][kMinHalves][kLanes];

  void unpack(const std::byte* panel, std::size_t first, std::size_t count) noexcept {
    const auto* units = reinterpret_cast<const typename Format::Unit*>(panel);
    const V::I offset = V::repeat(Format::kOffsetBits == 0 ? 0 : 1 << Format::kOffsetBits);
    for (std::size_t b = 0; b < count; ++b) {
      const auto& unit = units[(first + b) / Format::kParts];
      const std::size_t part = (first + b) % Format::kParts;
      for (std::size_t s = 0; s < kSteps; ++s) {
        unroll<kQuads>([&](auto quad) {
          const V::I x = Format::template codes<quad / 4, quad % 4>(unit, part, s * kLanes);
          _mm512_store_si512(codes[s][b][quad], _mm512_sub_epi8(x, offset));
        });
        for (std::size_t half = 0; half < kHalves; ++half) {
          V::store(scale[s][b][half], Format::scale(unit, part, half, s * kLanes));
          if constexpr (Format::kHasMins) V::store(min[s][b][half], Format::min(unit, part, half, s * kLanes));
        }
      }
    }
  }
};

// sums += what one block's integer products stand for; the order is simd/matmul.h's add_block.
template <class Format>
void add_block(V::F (&sums)[kTileTokens], const std::int32_t (&products)[2][kTileTokens][kLanes],
               const Chunk<Format>& chunk, std::size_t s, std::size_t b, const QuantisedTile& x) noexcept {
  for (std::size_t half = 0; half < Chunk<Format>::kHalves; ++half) {
    const V::F scale = V::load(chunk.scale[s][b][half]);
    unroll<kTileTokens>([&](auto i) {
      const V::F product = V::to_float(_mm512_load_si512(products[half][i]));
      sums[i] = V::fma(product, V::mul(scale, V::set(x.scale[i])), sums[i]);
    });
  }
  if constexpr (Format::kHasMins) {
    for (std::size_t half = 0; half < Chunk<Format>::kHalves; ++half) {
      const V::F min = V::load(chunk.min[s][b][half]);
      const float* sum = Format::kHasHalves ? x.half_sum[half] : x.sum;
      unroll<kTileTokens>([&](auto i) { sums[i] = V::subtract_product(sums[i], min, V::set(sum[i])); });
    }
  }
}

// One tile of results through a chunk. Products are read kLag blocks after they were stored: a load cannot take its
// value from a tile's store that still waits to be written, and would hold up everything behind it.
template <class Format>
void add_chunk(float (*to)[kPanelRows], const Chunk<Format>& chunk, std::size_t s, const QuantisedTile* x,
               std::size_t count) noexcept {
  alignas(64) std::int32_t products[kLag][2][kTileTokens][kLanes];
  const auto start = [&](std::size_t b) {
    auto& place = products[b % kLag];
    if constexpr (Format::kHasHalves) {
      multiply<0>(place[0], x[b], chunk.codes[s][b][0]);
      multiply<1>(place[1], x[b], chunk.codes[s][b][0]);
    } else {
      multiply<kAll>(place[0], x[b], chunk.codes[s][b][0]);
    }
  };
  V::F sums[kTileTokens];
  unroll<kTileTokens>([&](auto i) { sums[i] = V::load(to[i] + s * kLanes); });
  for (std::size_t b = 0; b < count + kLag; ++b) {
    if (b >= kLag) add_block(sums, products[b % kLag], chunk, s, b - kLag, x[b - kLag]);
    if (b < count) start(b);
  }
  unroll<kTileTokens>([&](auto i) { V::store(to[i] + s * kLanes, sums[i]); });
}

// ---- the table's entries
// ---------------------------------------------------------------------------------------------

template <class Format>
void tile_rows(const TileArgs& a, std::size_t first, std::size_t rows) noexcept {
  const std::size_t blocks = a.cols / kQuantisedColumns, groups = (rows + kTileTokens - 1) / kTileTokens;
  const QuantisedTile* tiles = a.tiles + first / kTileTokens * blocks;
  alignas(64) float sums[kMostRows][kPanelRows];
  for (std::size_t i = 0; i < groups * kTileTokens; ++i) {
    for (std::size_t s = 0; s < kSteps; ++s) V::store(sums[i] + s * kLanes, V::zero());
  }
  Chunk<Format> chunk;
  for (std::size_t b = 0; b < blocks; b += kChunk) {
    const std::size_t count = blocks - b < kChunk ? blocks - b : kChunk;
    chunk.unpack(a.panel, b, count);
    for (std::size_t g = 0; g < groups; ++g) {
      for (std::size_t s = 0; s < kSteps; ++s) {
        add_chunk<Format>(sums + g * kTileTokens, chunk, s, tiles + g * blocks + b, count);
      }
    }
  }
  const PanelArgs places{.panel = a.panel,
                         .cols = a.cols,
                         .live = a.live,
                         .rows = rows,
                         .quantised = nullptr,
                         .exact = nullptr,
                         .out = a.out + first,
                         .out_first = a.out_first,
                         .adds = a.adds,
                         .prefetches = false};
  store_tile<V>(places, 0, rows, sums[0]);
}

template <class Format>
void tile_matmul(const TileArgs& a) noexcept {
  asm volatile("ldtilecfg %0" ::"m"(kShapes));
  for (std::size_t first = 0; first < a.rows; first += kMostRows) {
    tile_rows<Format>(a, first, a.rows - first < kMostRows ? a.rows - first : kMostRows);
  }
  asm volatile("tilerelease" ::);
}

void interleave_rows(QuantisedTile* tiles, const QuantisedBlock* const* rows, std::size_t count,
                     std::size_t blocks) noexcept {
  for (std::size_t b = 0; b < blocks; ++b) {
    QuantisedTile& tile = tiles[b];
    if (count < kTileTokens) __builtin_memset(&tile, 0, sizeof tile);
    for (std::size_t i = 0; i < count; ++i) {
      const QuantisedBlock& x = rows[i][b];
      __builtin_memcpy(tile.codes[i], x.codes, sizeof x.codes);
      tile.scale[i] = x.scale;
      tile.sum[i] = x.sum;
      tile.half_sum[0][i] = column_sum<0>(x);
      tile.half_sum[1][i] = column_sum<1>(x);
    }
  }
}

}  // namespace

void add_amx_matmul(MatmulTable& table) noexcept {
  table.interleave_rows = interleave_rows;
#define QWEN35_INTEGERS(name) \
  table.tile_matmul[static_cast<std::size_t>(PanelFormat::k##name)] = tile_matmul<Format##name<V>>;
  QWEN35_INTEGER_FORMATS(QWEN35_INTEGERS)
#undef QWEN35_INTEGERS
}

}  // namespace qwen35::cpu
