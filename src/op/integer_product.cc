// x is quantized once for all linears that read it, one scale per 32 inputs (absmax); a call's products share one list of tasks.
#include "op/integer_product.h"

#include <algorithm>
#include <cstring>

#include "op/kernels.h"

namespace fettle {
namespace {

// x of one call as int8, made once for all linears that read it.
struct Quantized {
  int8_t* codes;
  float *scales, *offsets;  // (in / 32, stride)
  int32_t* sums;            // of codes, (in / 16, stride)
  int64_t stride;           // at least rows; an odd number of cache lines, so that one row's numbers lie in different sets of the cache
};

// What products of one layout need of the sum of each group of x, for all rows: (groups, stride).
struct GroupSums {
  IntPanelLayout layout;
  float* scaled;   // affine: scale * sum
  int32_t* start;  // else: what an integer sum starts from

  bool serves(const IntPanelLayout& l) const { return l.group == layout.group && l.affine == layout.affine && l.zero == layout.zero; }

  void fill(const Quantized& q, int inputs, int64_t first_row, int64_t last_row) const {
    for (int64_t g = 0; g < inputs / layout.group; g++) {
      const int64_t at = g * q.stride, block = g * layout.group / 32 * q.stride;
      for (int64_t r = first_row; r < last_row; r++) {
        const int32_t sum = layout.group == 32 ? q.sums[2 * at + r] + q.sums[2 * at + q.stride + r] : q.sums[at + r];
        if (layout.affine)
          scaled[at + r] = q.scales[block + r] * float(sum);
        else
          start[at + r] = kSumStart - layout.zero * sum;
      }
    }
  }
};

Quantized room_for(Run& run, int rows, int cols) {
  const int64_t stride = ((rows + 15) / 16 | 1) * 16;
  const size_t blocks = size_t(stride) * size_t(cols / 32);
  return {run.arena.get<int8_t>(size_t(rows) * size_t(cols) + 64), run.arena.get<float>(blocks), run.arena.get<float>(blocks),
          run.arena.get<int32_t>(2 * blocks), stride};
}

// done(first, last): what else is to be made of rows [first, last) once they are quantized.
template <class Done>
void quantize_rows(Run& run, const float* x, int rows, int n, const Quantized& q, const Done& done) {
  constexpr int kEach = 16;
  run.pool.run((rows + kEach - 1) / kEach, [&](int i) {
    const int64_t first = i * kEach, last = std::min(rows, (i + 1) * kEach);
    for (int64_t r = first; r < last; r++)
      kernels().quantize_row(x + r * n, n, q.codes + r * n, q.stride, q.scales + r, q.offsets + r, q.sums + r);
    done(first, last);
  });
}

// Row r of q is row from[r] of `x`.
template <class Done>
void gather_quantized(Run& run, const Quantized& x, const int* from, int rows, int n, const Quantized& q, const Done& done) {
  constexpr int kEach = 32;
  run.pool.run((rows + kEach - 1) / kEach, [&](int i) {
    const int64_t first = i * kEach, last = std::min(rows, (i + 1) * kEach);
    for (int64_t r = first; r < last; r++) std::memcpy(q.codes + r * n, x.codes + int64_t(from[r]) * n, size_t(n));
    const auto gather = [&](const auto* source, auto* to, int groups) {
      for (int64_t g = 0; g < groups; g++)
        for (int64_t r = first; r < last; r++) to[g * q.stride + r] = source[g * x.stride + from[r]];
    };
    gather(x.scales, q.scales, n / 32);
    gather(x.offsets, q.offsets, n / 32);
    gather(x.sums, q.sums, n / 16);
    done(first, last);
  });
}

struct IntTask {
  int product, first, last;
};

// The first `rows` rows of x quantized, once, and the products that read them: all but their tasks' ranges of panels.
std::span<const GemmInt8> products_of(Run& run, const Source& source, int rows, std::span<const IntProduct> wanted) {
  const int n = source.x->cols;
  const Quantized q = room_for(run, rows, n);
  GemmInt8* products = run.arena.get<GemmInt8>(wanted.size());
  GroupSums* sums = run.arena.get<GroupSums>(wanted.size());
  size_t different = 0;
  for (size_t i = 0; i < wanted.size(); i++) {
    const auto& [panels, range, c] = wanted[i];
    const Panels& p = *panels;
    GroupSums* own = std::find_if(sums, sums + different, [&](const GroupSums& s) { return s.serves(p.layout); });
    if (own == sums + different) {
      const size_t count = size_t(q.stride) * size_t(n / p.layout.group);
      *own = {p.layout, p.layout.affine ? run.arena.get<float>(count) : nullptr, p.layout.affine ? nullptr : run.arena.get<int32_t>(count)};
      different++;
    }
    const int64_t at = range.first;
    products[i] = {p.layout,
                   p.memory.get(),
                   p.row_factors.get(),
                   q.codes + at * n,
                   q.scales + at,
                   q.offsets + at,
                   own->scaled ? own->scaled + at : nullptr,
                   own->start ? own->start + at : nullptr,
                   q.stride,
                   c,
                   p.outputs,
                   range.count,
                   p.inputs,
                   0,
                   0,
                   p.outputs,
                   nullptr};
  }
  const auto fill = [&](int64_t first, int64_t last) {
    for (size_t i = 0; i < different; i++) sums[i].fill(q, n, first, last);
  };
  if (source.from) {
    const int needed = 1 + *std::max_element(source.from, source.from + rows);
    const Quantized once = room_for(run, needed, n);
    quantize_rows(run, source.x->data, needed, n, once, [](int64_t, int64_t) {});
    gather_quantized(run, once, source.from, rows, n, q, fill);
  } else {
    quantize_rows(run, source.x->data, rows, n, q, fill);
  }
  return {products, wanted.size()};
}

// All products as one list of tasks: one fork and join for q, k and v, or for all experts. rows: of x, that they read.
void multiply_int8(Run& run, const Source& source, int rows, std::span<const IntProduct> wanted) {
  const std::span<const GemmInt8> products = products_of(run, source, rows, wanted);
  const auto streams = [](const IntProduct& p) { return p.rows.count <= kernels().stream_rows; };
  // A task should outlast its hand-over: 64 KiB of codes when they stream from memory, about 2 million products when they are reused.
  // Streams are fastest when they are long, and so the first tasks are: each is nine tenths of a thread's share of what is left.
  const int64_t inputs = source.x->cols, bytes_per_panel = inputs * 10;
  int rest = 0, all = 0, tasks = 0;
  for (const IntProduct& p : wanted) {
    all += p.panels->panels();
    rest += streams(p) ? p.panels->panels() : 0;
  }
  IntTask* list = run.arena.get<IntTask>(size_t(all));
  for (size_t i = 0; i < wanted.size(); i++) {
    const bool streaming = streams(wanted[i]);
    const int64_t products_per_panel = inputs * 16 * wanted[i].rows.count;
    const int least = streaming ? int(std::clamp<int64_t>((64 << 10) / bytes_per_panel, 1, 64))
                                : int(std::clamp<int64_t>(2000000 / products_per_panel, 1, 32)) * 2;
    for (int first = 0, last; first < wanted[i].panels->panels(); rest -= streaming ? last - first : 0, first = last) {
      const int each = streaming ? std::max(least, rest * 9 / (10 * run.pool.threads())) : least;
      last = std::min(first + each, wanted[i].panels->panels());
      list[tasks++] = {int(i), first, last};
    }
  }
  run.pool.run(tasks, [&](int i) {
    GemmInt8 g = products[size_t(list[i].product)];
    g.first_panel = list[i].first;
    g.last_panel = list[i].last;
    if (!streams(wanted[size_t(list[i].product)])) g.scratch = thread_scratch(2 * (size_t(g.k) * 16 + size_t(g.k / g.layout.group) * 128));
    kernels().gemm_int8(g);
  });
}

}  // namespace

int byte_rows(const Run& run, int rows) { return codes_arithmetic(false) == Arithmetic::int8 ? rows : std::min(run.generated, rows); }

void multiply_integer(Run& run, const Source& source, std::span<const IntProduct> products) {
  const int first = byte_rows(run, source.rows);
  IntProduct* bytes = run.arena.get<IntProduct>(products.size());
  PanelProduct* codes = run.arena.get<PanelProduct>(products.size());
  RowRange* rest = run.arena.get<RowRange>(products.size());
  PairRows* pairs = run.arena.get<PairRows>(products.size());
  size_t* range_of = run.arena.get<size_t>(products.size());
  size_t as_bytes = 0, as_pairs = 0, ranges = 0;
  for (const auto& [panels, rows, c] : products) {
    const int before = std::clamp(first - rows.first, 0, rows.count);
    if (before > 0) bytes[as_bytes++] = {panels, {rows.first, before}, c};
    if (before == rows.count) continue;
    const RowRange after{rows.first + before, rows.count - before};
    if (!ranges || rest[ranges - 1].first != after.first) rest[ranges++] = after;  // products of the same rows follow one another
    range_of[as_pairs] = ranges - 1;
    codes[as_pairs++] = {{}, panels, c + int64_t(before) * panels->outputs};
  }
  if (as_bytes) multiply_int8(run, source, first, {bytes, as_bytes});
  if (!as_pairs) return;
  // So many ranges at a time that their rows are still in the caches when they are multiplied.
  constexpr int64_t kNear = 1 << 20;  // bytes, of each thread
  for (size_t range = 0, product = 0, end, last; range < ranges; range = end, product = last) {
    const Arena::Mark mark = run.arena.mark();
    int64_t bytes_here = 0;
    for (end = range; end < ranges && (end == range || bytes_here < kNear * run.pool.threads()); end++)
      bytes_here += 2 * int64_t(rest[end].count) * source.x->cols;
    bf16_rows(run, source.x->data, source.x->cols, source.from, {rest + range, end - range}, {pairs + range, end - range});
    for (last = product; last < as_pairs && range_of[last] < end; last++) codes[last].a = pairs[range_of[last]];
    multiply_codes(run, {codes + product, last - product});
    run.arena.release(mark);
  }
}

}  // namespace fettle
