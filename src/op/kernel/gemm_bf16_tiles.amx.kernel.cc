// bf16 products on AMX: blocks of up to 32 rows by two panels of 16 lanes, 32 inputs at a step. A panel of pairs is what a tile of the
// right side has to be, row by row, so the layout is the one of all other machines.
#include "op/kernel/gemm.h"
#include "simd/tiles.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// Tile registers: sums 0 to 3 (upper rows of both panels, lower rows of both), 4 and 5 the rows of a, 6 and 7 the panels of b.
constexpr int kStepPairs = 16, kBlockRows = 2 * kTileRows;

// Fetches what a product is to bring nearer, some lines at each of its steps.
class Fetch {
 public:
  Fetch(const GemmBf16& g) : ahead_(g.ahead) {
    const int all = g.ahead[0].lines * g.ahead[0].times + g.ahead[1].lines * g.ahead[1].times;
    const int steps = (g.m + kBlockRows - 1) / kBlockRows * ((g.n + 31) / 32) * ((g.pairs + kStepPairs - 1) / kStepPairs);
    each_ = (all + steps - 1) / steps;
    begin();
  }
  void step() {
    for (int i = 0; i < each_; i++) {
      if (line_ == ahead_->lines && !turn()) return;
      prefetch_far(at_ + line_++ * 64);
    }
  }

 private:
  void begin() { at_ = reinterpret_cast<const uint8_t*>(ahead_->from), line_ = time_ = 0; }
  // To the next piece; false: there is none.
  bool turn() {
    if (++time_ < ahead_->times) {
      at_ += ahead_->stride, line_ = 0;
      return true;
    }
    if (++used_ == 2) {
      each_ = 0;
      return false;
    }
    ahead_++;
    begin();
    return ahead_->lines > 0;
  }
  const Ahead* ahead_;
  const uint8_t* at_;
  int each_, line_, time_, used_ = 0;
};

// Lines of c, of two panels, that are written behind steps but are in no cache yet.
struct Cold {
  const char* c;
  int64_t row;
  int rows;
  void step(int i, int steps) const {
    if (c)
      for (int r = rows * i / steps; r < rows * (i + 1) / steps; r++)
        __builtin_prefetch(c + r * row, 1), __builtin_prefetch(c + r * row + kTileBytes, 1);
  }
};

// Adds `steps` steps to the sums. a: tiles one after another, those of the lower rows `lower` bytes on; b: panels `panel` dwords apart.
template <int Blocks, int Panels>
void add_steps(const char* a, int64_t lower, const uint32_t* b, int64_t panel, int steps, Fetch& fetch, const Cold& cold) {
  for (int i = 0; i < steps; i++, a += kTileRows * kTileBytes, b += kStepPairs * 16) {
    fetch.step();
    cold.step(i, steps);
    tile_load<4>(a, kTileBytes);
    tile_load<6>(b, kTileBytes);
    tile_add_bf16<0, 4, 6>();
    if constexpr (Panels > 1) {
      tile_load<7>(b + panel, kTileBytes);
      tile_add_bf16<1, 4, 7>();
    }
    if constexpr (Blocks > 1) {
      tile_load<5>(a + lower, kTileBytes);
      tile_add_bf16<2, 5, 6>();
      if constexpr (Panels > 1) tile_add_bf16<3, 5, 7>();
    }
  }
}

// The last pairs, fewer than a step: a panel has zeros behind them here, as a's tiles have.
template <int Blocks, int Panels>
void add_rest(const char* a, int64_t lower, const uint32_t* b, int64_t panel, int pairs, Fetch& fetch) {
  alignas(64) uint32_t right[Panels * kStepPairs * 16] = {};
  for (int p = 0; p < Panels; p++) std::memcpy(right + p * kStepPairs * 16, b + p * panel, size_t(pairs) * 64);
  add_steps<Blocks, Panels>(a, lower, right, kStepPairs * 16, 1, fetch, {});
}

// What a sum starts from and where it goes: the matrix itself, or a copy where the tile's last rows or lanes are none of the matrix's. All
// tiles are whole, for another shape takes as long to load as four products; rows of a that are none come from the rest of its last block.
template <int T>
void begin(const GemmBf16& g, int row, int column, int rows, int lanes) {
  if (!g.from) return tile_zero<T>();
  const float* from = g.from + row * g.from_row + column;
  if (rows == kTileRows && lanes >= 16) return tile_load<T>(from, g.from_row * 4);
  alignas(64) float copy[kTileRows * 16];
  for (int r = 0; r < rows; r++) f_store(copy + r * 16, f_load_n(from + r * g.from_row, lanes < 16 ? lanes : 16));
  tile_load<T>(copy, kTileBytes);
}

template <int T>
void end(const GemmBf16& g, int row, int column, int rows, int lanes) {
  float* c = g.c + row * g.c_row + column;
  if (rows == kTileRows && lanes >= 16) return tile_store<T>(c, g.c_row * 4);
  alignas(64) float copy[kTileRows * 16];
  tile_store<T>(copy, kTileBytes);
  for (int r = 0; r < rows; r++) f_store_n(c + r * g.c_row, f_load(copy + r * 16), lanes < 16 ? lanes : 16);
}

template <int Blocks, int Panels>
void block(const GemmBf16& g, int row, int rows, int panel, Fetch& fetch) {
  const int upper = Blocks > 1 ? kTileRows : rows, lower = rows - upper, lanes = g.n - (panel + Panels - 1) * 16;
  const int64_t lower_rows = kTileRows * g.a_row * 4;
  const char* a = static_cast<const char*>(g.a) + row * g.a_row * 4;
  const uint32_t* b = g.b + panel * g.b_panel;
  const int column = panel * 16, below = row + kTileRows;
  begin<0>(g, row, column, upper, Panels > 1 ? 16 : lanes);
  if constexpr (Panels > 1) begin<1>(g, row, column + 16, upper, lanes);
  if constexpr (Blocks > 1) begin<2>(g, below, column, lower, Panels > 1 ? 16 : lanes);
  if constexpr (Blocks > 1 && Panels > 1) begin<3>(g, below, column + 16, lower, lanes);
  const int steps = g.pairs / kStepPairs, rest = g.pairs % kStepPairs;
  const Cold cold{g.from == g.c ? nullptr : reinterpret_cast<const char*>(g.c + row * g.c_row + column), g.c_row * 4, rows};
  add_steps<Blocks, Panels>(a, lower_rows, b, g.b_panel, steps, fetch, cold);
  if (rest) add_rest<Blocks, Panels>(a + steps * kTileRows * kTileBytes, lower_rows, b + steps * kStepPairs * 16, g.b_panel, rest, fetch);
  end<0>(g, row, column, upper, Panels > 1 ? 16 : lanes);
  if constexpr (Panels > 1) end<1>(g, row, column + 16, upper, lanes);
  if constexpr (Blocks > 1) end<2>(g, below, column, lower, Panels > 1 ? 16 : lanes);
  if constexpr (Blocks > 1 && Panels > 1) end<3>(g, below, column + 16, lower, lanes);
}

template <int Panels>
void panels_by_rows(const GemmBf16& g, int panel, Fetch& fetch) {
  for (int row = 0, rows; row < g.m; row += rows) {
    rows = g.m - row < kBlockRows ? g.m - row : kBlockRows;
    rows > kTileRows ? block<2, Panels>(g, row, rows, panel, fetch) : block<1, Panels>(g, row, rows, panel, fetch);
  }
}

}  // namespace

void begin_bf16() {
  TileShapes shapes;
  for (int t = 0; t < 8; t++) shapes.set(t, kTileRows, kTileBytes);
  tiles_shape(shapes);
}

void end_bf16() { tiles_release(); }

// A pair of panels meets all rows while it is in cache.
void gemm_bf16(const GemmBf16& g) {
  const int panels = (g.n + 15) / 16;
  Fetch fetch(g);
  for (int panel = 0; panel < panels; panel += 2)
    panel + 1 < panels ? panels_by_rows<2>(g, panel, fetch) : panels_by_rows<1>(g, panel, fetch);
}

int64_t peak(Arithmetic kind, int64_t rounds) {
  if (kind != Arithmetic::bf16) return kernels_avx512_bf16::table.peak(kind, rounds);
  // Numbers as a model's: products of zeros take less power, and a processor goes faster then than it ever will at work.
  alignas(64) uint16_t numbers[kTileRows * kTileBytes / 2];
  for (int i = 0; i < kTileRows * kTileBytes / 2; i++) numbers[i] = uint16_t(0x3c00 + (i * 7919 & 0x81ff));
  begin_bf16();
  tile_load<4>(numbers, kTileBytes), tile_load<5>(numbers, kTileBytes), tile_load<6>(numbers, kTileBytes),
      tile_load<7>(numbers, kTileBytes);
  for (int64_t i = 0; i < rounds; i++)
    tile_add_bf16<0, 4, 6>(), tile_add_bf16<1, 4, 7>(), tile_add_bf16<2, 5, 6>(), tile_add_bf16<3, 5, 7>();
  end_bf16();
  return rounds * 4 * kTileRows * 16 * 64;
}

}  // namespace fettle::FETTLE_KERNELS
