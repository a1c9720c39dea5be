// bf16 products on AMX: blocks of up to 32 rows by two panels of 16 lanes, 32 inputs at a step. A panel of pairs is what a tile of the
// right side has to be, row by row, so the layout is the one of all other machines.
#include "op/kernel/gemm.h"
#include "simd/tiles.h"

namespace fettle::FETTLE_KERNELS {
namespace {

// Tile registers: sums 0 to 3 (upper rows of both panels, lower rows of both), 4 and 5 the rows of a, 6 and 7 the panels of b.
constexpr int kStepPairs = 16, kBlockRows = 2 * kTileRows;

void shape_for(int rows) {
  TileShapes shapes;
  const int upper = rows < kTileRows ? rows : kTileRows, lower = rows - upper;
  for (int p = 0; p < 2; p++) {
    shapes.set(p, upper, kTileBytes);
    if (lower) shapes.set(2 + p, lower, kTileBytes);
    shapes.set(6 + p, kStepPairs, kTileBytes);
  }
  shapes.set(4, upper, kTileBytes);
  if (lower) shapes.set(5, lower, kTileBytes);
  tiles_shape(shapes);
}

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

// What a sum starts from and where it goes: the matrix itself, or a copy where its last lanes are none of the matrix's.
template <int T>
void begin(const GemmBf16& g, int row, int column, int rows, int lanes) {
  if (!g.from) return tile_zero<T>();
  const float* from = g.from + row * g.from_row + column;
  if (lanes >= 16) return tile_load<T>(from, g.from_row * 4);
  alignas(64) float copy[kTileRows * 16];
  for (int r = 0; r < rows; r++) f_store(copy + r * 16, f_load_n(from + r * g.from_row, lanes));
  tile_load<T>(copy, kTileBytes);
}

template <int T>
void end(const GemmBf16& g, int row, int column, int rows, int lanes) {
  float* c = g.c + row * g.c_row + column;
  if (lanes >= 16) return tile_store<T>(c, g.c_row * 4);
  alignas(64) float copy[kTileRows * 16];
  tile_store<T>(copy, kTileBytes);
  for (int r = 0; r < rows; r++) f_store_n(c + r * g.c_row, f_load(copy + r * 16), lanes);
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

// All panels, for the rows from `first` on, `each` at a time: one shape of tiles. A pair of panels meets all rows while it is in cache.
template <int Blocks>
void rows_by_panels(const GemmBf16& g, int first, int last, int each, Fetch& fetch) {
  if (first == last) return;
  shape_for(each);
  const int panels = (g.n + 15) / 16;
  for (int panel = 0; panel < panels; panel += 2)
    for (int row = first; row < last; row += each)
      panel + 1 < panels ? block<Blocks, 2>(g, row, each, panel, fetch) : block<Blocks, 1>(g, row, each, panel, fetch);
}

}  // namespace

void gemm_bf16(const GemmBf16& g) {
  const int whole = g.m / kBlockRows * kBlockRows, rest = g.m - whole;
  Fetch fetch(g);
  rows_by_panels<2>(g, 0, whole, kBlockRows, fetch);
  rest > kTileRows ? rows_by_panels<2>(g, whole, g.m, rest, fetch) : rows_by_panels<1>(g, whole, g.m, rest, fetch);
  tiles_release();
}

int64_t peak(Arithmetic kind, int64_t rounds) {
  if (kind != Arithmetic::bf16) return kernels_avx512_bf16::table.peak(kind, rounds);
  alignas(64) const char zeros[kTileRows * kTileBytes] = {};
  shape_for(kBlockRows);
  tile_load<4>(zeros, kTileBytes), tile_load<5>(zeros, kTileBytes), tile_load<6>(zeros, kTileBytes), tile_load<7>(zeros, kTileBytes);
  for (int64_t i = 0; i < rounds; i++)
    tile_add_bf16<0, 4, 6>(), tile_add_bf16<1, 4, 7>(), tile_add_bf16<2, 5, 6>(), tile_add_bf16<3, 5, 7>();
  tiles_release();
  return rounds * 4 * kTileRows * 16 * 64;
}

}  // namespace fettle::FETTLE_KERNELS
