#include "op/panels.h"

#include <sys/mman.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <vector>

#include "op/product.h"
#include "op/tasks.h"

namespace fettle {

PanelMemory::PanelMemory(size_t bytes, PanelSlab* slab) : bytes_(bytes) {
  constexpr size_t kHuge = size_t(2) << 20;
  if (slab && bytes <= slab->memory_.bytes() - slab->used_) {
    data_ = {slab->memory_.data_, slab->memory_.get() + slab->used_};
    slab->used_ += (bytes + 63) / 64 * 64;
    return;
  }
  const size_t align = bytes >= kHuge ? kHuge : 64, size = (bytes + 4096 + align - 1) / align * align;
  data_.reset(static_cast<uint8_t*>(std::aligned_alloc(align, size)), std::free);
  if (!data_)
    throw failed("memory", "there is no room for " + format_bytes(double(size)) + " of weights",
                 "a smaller model, or fewer programs beside it");
  madvise(data_.get(), bytes / kHuge * kHuge, MADV_HUGEPAGE);  // whole ones: hundreds of weights would waste half a page each
}

namespace {

// Rows [first, first + n) decoded to f32.
void decode_rows(const Tensor& w, int64_t first, int n, float* out) {
  const int64_t cols = w.shape.cols();
  for (int i = 0; i < n; i++) w.format->decode(row_bytes(w, first + i), out + i * cols, cols);
}

Panels empty_panels(const Tensor& w, Panels::Kind kind, bool backward, PanelSlab* slab) {
  Panels p;
  p.kind = kind;
  p.outputs = int(backward ? w.shape.cols() : w.shape.rows());
  p.inputs = int(backward ? w.shape.rows() : w.shape.cols());
  p.memory = PanelMemory(size_t(p.panels()) * size_t(p.panel_stride()) * 4, slab);
  return p;
}

}  // namespace

Panels make_f32_panels(const Tensor& w, bool backward, Pool& pool, PanelSlab* slab) {
  Panels p = empty_panels(w, Panels::f32, backward, slab);
  float* base = reinterpret_cast<float*>(p.memory.get());
  const int64_t stride = p.panel_stride(), cols = w.shape.cols();
  const int rows = int(w.shape.rows());
  if (backward) std::memset(base + (p.panels() - 1) * stride, 0, size_t(stride) * 4);
  pool.run((rows + 15) / 16, [&](int i) {
    const int n = std::min(16, rows - i * 16);
    std::vector<float> block(size_t(16 * cols));
    decode_rows(w, int64_t(i) * 16, n, block.data());
    if (!backward) {
      float* to = base + i * stride;
      for (int64_t k = 0; k < cols; k++)
        for (int l = 0; l < 16; l++) to[k * 16 + l] = block[size_t(l * cols + k)];
    } else {
      for (int l = 0; l < n; l++)
        for (int64_t k = 0; k < cols; k++) base[k / 16 * stride + (i * 16 + l) * 16 + k % 16] = block[size_t(l * cols + k)];
    }
  });
  return p;
}

// 16 rows of k bf16 values, `row` values apart, as steps of pairs: dword (j, lane) is (2j, 2j + 1) of that row.
static void interleave(const uint16_t* rows, int64_t row, int64_t steps, uint32_t* to) {
  for (int64_t j = 0; j < steps; j++)
    for (int l = 0; l < 16; l++) std::memcpy(to + j * 16 + l, rows + l * row + 2 * j, 4);
}

Panels make_bf16_panels(const Tensor& w, bool backward, Pool& pool, PanelSlab* slab) {
  Panels p = empty_panels(w, Panels::bfloat, backward, slab);
  uint32_t* base = reinterpret_cast<uint32_t*>(p.memory.get());
  const int64_t stride = p.panel_stride(), cols = w.shape.cols(), padded = (cols + 1) / 2 * 2;
  const int rows = int(w.shape.rows());
  if (backward) std::memset(base + (p.panels() - 1) * stride, 0, size_t(stride) * 4);
  pool.run((rows + 15) / 16, [&](int i) {
    const int n = std::min(16, rows - i * 16);
    std::vector<float> row(static_cast<size_t>(cols));
    std::vector<uint16_t> block(size_t(16 * padded));
    for (int l = 0; l < n; l++) {
      decode_rows(w, int64_t(i) * 16 + l, 1, row.data());
      kernels().to_bfloat(row.data(), cols, block.data() + l * padded);
    }
    if (!backward) {
      interleave(block.data(), padded, padded / 2, base + i * stride);
    } else {
      for (int l = 0; l < n; l += 2)
        for (int64_t k = 0; k < cols; k++)
          base[k / 16 * stride + (i * 16 + l) / 2 * 16 + k % 16] =
              block[size_t(l * padded + k)] | uint32_t(block[size_t((l + 1) * padded + k)]) << 16;
    }
  });
  return p;
}

namespace {

// Tasks of a product: panels are cut into pieces of `panels_each`, rows into pieces of `rows_each`; which thread runs a piece changes
// nothing.
constexpr int64_t kCachedBytes = 512 << 10;
struct Pieces {
  int panels, panels_each, rows, rows_each;
  int across() const { return (panels + panels_each - 1) / panels_each; }
  int tasks() const { return across() * ((rows + rows_each - 1) / rows_each); }
};

// Enough pieces to balance threads, each with work worth handing out (about 20 microseconds). row_bytes: of a, where all of a
// piece's rows should be in the second-level cache when the next pair of panels comes; 0: that does not matter.
Pieces cut(int panels, int rows, int64_t work_per_panel_row, int64_t row_bytes) {
  const int64_t most = row_bytes ? std::max<int64_t>(kCachedBytes / row_bytes / 32 * 32, 64) : rows;
  Pieces p{panels, 1, rows, int(std::max<int64_t>(std::min<int64_t>(rows, most), 1))};
  if (rows > 96 && panels < 8) p.rows_each = 48;
  int64_t per_panel = work_per_panel_row * std::min(rows, p.rows_each);
  int64_t wanted = std::max<int64_t>(1, int64_t(600000) / std::max<int64_t>(1, per_panel));
  p.panels_each = int(std::clamp<int64_t>(wanted, 2, std::max(2, (panels + 3) / 4)));
  p.panels_each += p.panels_each % 2;
  return p;
}

}  // namespace

Rows readable(Run& run, const float* data, int rows, int cols) {
  if (cols % 16 == 0) return {data, cols};
  const int64_t stride = (cols + 15) / 16 * 16;
  float* copy = run.arena.get<float>(size_t(rows) * size_t(stride));
  for (int r = 0; r < rows; r++) {
    std::memcpy(copy + r * stride, data + int64_t(r) * cols, size_t(cols) * 4);
    std::memset(copy + r * stride + cols, 0, size_t(stride - cols) * 4);
  }
  return {copy, stride};
}

Rows transposed(Run& run, const float* data, int rows, int cols) {
  const int64_t stride = (rows + 15) / 16 * 16;
  float* copy = run.arena.get<float>(size_t(cols) * size_t(stride));
  run.pool.run((cols + 63) / 64, [&](int i) {
    for (int c = i * 64; c < std::min(cols, i * 64 + 64); c++) {
      for (int r = 0; r < rows; r++) copy[c * stride + r] = data[int64_t(r) * cols + c];
      for (int64_t r = rows; r < stride; r++) copy[c * stride + r] = 0;
    }
  });
  return {copy, stride};
}

static Pieces cut(const GemmF32& g) { return cut((g.n + 15) / 16, g.m, int64_t(g.k) * 16, 0); }

static void multiply_piece(const GemmF32& g, const Pieces& pieces, int i) {
  GemmF32 part = g;
  int panel = i % pieces.across() * pieces.panels_each, row = i / pieces.across() * pieces.rows_each;
  part.b += panel * g.b_panel;
  part.c += panel * 16 + row * g.c_row;
  part.a += row * g.a_row;
  part.n = std::min(g.n - panel * 16, pieces.panels_each * 16);
  part.m = std::min(g.m - row, pieces.rows_each);
  kernels().gemm_f32(part);
}

void multiply_f32(Pool& pool, const GemmF32& g) {
  const Pieces pieces = cut(g);
  pool.run(pieces.tasks(), [&](int i) { multiply_piece(g, pieces, i); });
}

void multiply_f32(Run& run, std::span<const GemmF32> products) {
  run_all(
      run, products.size(), [&](size_t i) { return products[i].m ? cut(products[i]).tasks() : 0; },
      [&](size_t i, int piece) { multiply_piece(products[i], cut(products[i]), piece); });
}

void matrix_product(Pool& pool, const MatrixProduct& p) {
  if (p.m > 0 && p.n > 0)
    multiply_f32(pool, {p.a, p.a_row, p.a_step, p.b, 16, p.b_row, p.c, p.c_row, p.m, p.n, p.k, p.alpha, p.accumulate});
}

namespace {

// Row r of a as it is, padded with zeros to whole pairs.
void widen_row(const float* a, int k, int64_t r, int64_t stride, float* to) {
  to[r * stride + stride - 1] = 0;
  std::memcpy(to + r * stride, a, size_t(k) * 4);
}

// Row r as bf16; `group` of them lie together (Kernels::pair_rows).
void round_row(const float* a, int k, int64_t r, int64_t stride, int64_t group, uint16_t* to) {
  constexpr int kStep = 32;  // a tile's row
  uint16_t* row = to + r / group * group * stride + r % group * kStep;
  if (group == 1) {
    row[stride - 1] = 0;
    return kernels().to_bfloat(a, k, row);
  }
  for (int at = 0; at < k; at += kStep, row += group * kStep) {
    if (k - at < kStep) std::memset(row, 0, kStep * 2);
    kernels().to_bfloat(a + at, std::min(kStep, k - at), row);
  }
}

}  // namespace

void bf16_rows(Run& run, const float* a, int k, const int* from, std::span<const RowRange> ranges, std::span<PairRows> out) {
  const int pairs = (k + 1) / 2, group = kernels().pair_rows;
  const bool widen = !pairs_pay(), as_they_are = widen && k % 2 == 0 && !from;
  const int64_t stride = group == 1 ? pairs : (pairs + 15) / 16 * 16;
  for (size_t i = 0; i < ranges.size(); i++) {
    const size_t rows = size_t((ranges[i].count + group - 1) / group * group);
    out[i] = {as_they_are ? reinterpret_cast<const std::byte*>(a + int64_t(ranges[i].first) * k)
                          : run.arena.get<std::byte>(rows * size_t(stride) * size_t(kernels().pair_bytes)),
              stride, ranges[i].count};
  }
  if (as_they_are) return;
  constexpr int kEach = 16;
  run_all(
      run, ranges.size(), [&](size_t i) { return (ranges[i].count + kEach - 1) / kEach; },
      [&](size_t i, int task) {
        std::byte* to = const_cast<std::byte*>(out[i].data);
        for (int r = task * kEach; r < std::min(ranges[i].count, task * kEach + kEach); r++) {
          const int row = ranges[i].first + r;
          const float* x = a + int64_t(from ? from[row] : row) * k;
          widen ? widen_row(x, k, r, stride * 2, reinterpret_cast<float*>(to))
                : round_row(x, k, r, stride * 2, group, reinterpret_cast<uint16_t*>(to));
        }
      });
}

PairRows bf16_rows(Run& run, const float* a, int m, int k) {
  const RowRange all{0, m};
  PairRows rows;
  bf16_rows(run, a, k, nullptr, {&all, 1}, {&rows, 1});
  return rows;
}

bool pairs_pay() { return kernels().pair_bytes == 4; }

PairPanels pair_panels(Run& run, const float* b, int k, int n) {
  const int steps = (k + 1) / 2, panels = (n + 15) / 16;
  const int64_t panel = int64_t(steps) * 16;
  uint32_t* data = run.arena.get<uint32_t>(size_t(panels) * size_t(panel));
  run.pool.run((steps + 15) / 16, [&](int i) {
    std::vector<float> zeros(k % 2 ? size_t(n) : 0);
    for (int64_t j = i * 16; j < std::min(steps, i * 16 + 16); j++)
      kernels().to_pairs(b + 2 * j * n, 2 * j + 1 < k ? b + (2 * j + 1) * n : zeros.data(), n, data + j * 16, panel);
  });
  return {data, k, n};
}

PairPanels pair_panels_of_transposed(Run& run, const float* b, int n, int k, float factor) {
  const int steps = (k + 1) / 2, panels = (n + 15) / 16;
  uint32_t* data = run.arena.get<uint32_t>(size_t(panels) * size_t(steps) * 16);
  run.pool.run(panels, [&](int i) {
    std::vector<float> row(static_cast<size_t>(k));
    std::vector<uint16_t> block(size_t(16 * 2 * steps));
    for (int l = 0; l < std::min(16, n - i * 16); l++) {
      std::memcpy(row.data(), b + (int64_t(i) * 16 + l) * k, size_t(k) * 4);
      kernels().scale(factor, k, row.data());
      kernels().to_bfloat(row.data(), k, block.data() + l * 2 * steps);
    }
    interleave(block.data(), 2 * steps, steps, data + int64_t(i) * steps * 16);
  });
  return {data, k, n};
}

namespace {

Pieces cut(const PairRows& a, const PairPanels& b) {
  return cut((b.n + 15) / 16, a.rows, int64_t(b.k) * kernels().pair_cost, a.stride * kernels().pair_bytes);
}

void multiply_piece(const PairRows& a, const PairPanels& b, float* c, bool accumulate, const Pieces& pieces, int i) {
  const int steps = (b.k + 1) / 2, panel = i % pieces.across() * pieces.panels_each, row = i / pieces.across() * pieces.rows_each;
  const int64_t panel_stride = int64_t(steps) * 16;
  float* part = c + panel * 16 + int64_t(row) * b.n;
  const Bf16Products products_here;
  kernels().gemm_bf16({a.data + row * a.stride * kernels().pair_bytes, a.stride, b.data + panel * panel_stride, panel_stride,
                       accumulate ? part : nullptr, b.n, part, b.n, std::min(a.rows - row, pieces.rows_each),
                       std::min(b.n - panel * 16, pieces.panels_each * 16), steps});
}

PairPanels pairs_of(const Panels& p) {
  CHECK(p.kind == Panels::bfloat, "bf16 panels expected");
  return {reinterpret_cast<const uint32_t*>(p.memory.get()), p.inputs, p.outputs};
}

}  // namespace

void multiply_pairs(Run& run, const PairRows& a, const PairPanels& b, float* c, bool accumulate) {
  const Pieces pieces = cut(a, b);
  run.pool.run(pieces.tasks(), [&](int i) { multiply_piece(a, b, c, accumulate, pieces, i); });
}

void multiply_bf16(Run& run, const PairRows& a, const Panels& p, float* c, bool accumulate) {
  multiply_pairs(run, a, pairs_of(p), c, accumulate);
}

void multiply_bf16(Run& run, std::span<const PanelProduct> products) {
  const auto pieces = [&](size_t i) { return cut(products[i].a, pairs_of(*products[i].panels)); };
  run_all(
      run, products.size(), [&](size_t i) { return products[i].a.rows ? pieces(i).tasks() : 0; },
      [&](size_t i, int piece) { multiply_piece(products[i].a, pairs_of(*products[i].panels), products[i].c, false, pieces(i), piece); });
}

uint8_t* thread_scratch(size_t bytes) {
  thread_local PanelMemory memory;
  if (memory.bytes() < bytes) memory = PanelMemory(bytes);
  return memory.get();
}

GemmF32 f32_product(const float* a, int m, const Panels& p, float* c, bool accumulate) {
  return {a,        p.inputs, 1,         reinterpret_cast<const float*>(p.memory.get()), p.panel_stride(), 16, c, p.outputs, m, p.outputs,
          p.inputs, 1.0f,     accumulate};
}

void multiply(Run& run, const float* a, int m, const Panels& p, float* c, bool accumulate) {
  if (p.kind == Panels::f32) return multiply_f32(run.pool, f32_product(a, m, p, c, accumulate));
  Arena::Mark mark = run.arena.mark();
  multiply_bf16(run, bf16_rows(run, a, m, p.inputs), p, c, accumulate);
  run.arena.release(mark);
}

}  // namespace fettle
