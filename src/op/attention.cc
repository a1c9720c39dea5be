// Attention with an online softmax over pages of 64 keys (Milakov & Gimelshein 2018; Dao et al. 2022). The query heads that share a
// key head are rows of one product, so every key is read once per tile of queries. Going back, probabilities are rebuilt from q, k and the
// row's log-sum instead of being kept. Results do not depend on how a prompt was cut, what else is in the batch, or whether a prefix is
// shared: pages lie at absolute positions.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "op/kernels.h"
#include "op/kv_page.h"
#include "op/op.h"

namespace fettle {
namespace {

constexpr int kPage = KvCache::kPage;
constexpr int kTile = 16;  // query tokens of a task

// Where keys and values lie: in the cache, or (training, no cache) in panels made for this batch alone.
struct Attend {
  Run& run;
  const Attention& shape;
  const Batch& batch;
  const Var *q, *k, *v;
  std::vector<int> local_page;  // first local page of each segment
  float* local = nullptr;       // [page][kv head][2][kPage * head_dim]
  float* log_sums = nullptr;    // (rows, heads) for the way back
  const Format* element = run.kv ? run.kv->element() : find_format("F32");

  int group() const { return shape.heads / shape.kv_heads; }
  int64_t plane() const { return int64_t(kPage) * shape.head_dim; }
  float* local_plane(int page, int head, int which) const {
    return local + ((int64_t(page) * shape.kv_heads + head) * 2 + which) * plane();
  }

  // The batch's row that holds a position of a segment's sequence: its own, or its prefix's.
  int64_t row_of(const Batch::Segment& s, int position) const {
    return position < s.start ? batch.segments[size_t(s.prefix)].first + position : s.first + position - s.start;
  }

  void make_local() {
    int pages = 0;
    for (const Batch::Segment& s : batch.segments) {
      CHECK(s.start == 0 || (s.prefix >= 0 && s.start == batch.segments[size_t(s.prefix)].count),
            "without a cache, what lies before a segment is in the batch");
      local_page.push_back(pages);
      pages += (s.start + s.count + kPage - 1) / kPage;
    }
    local = run.arena.get<float>(size_t(pages) * size_t(shape.kv_heads) * 2 * size_t(plane()) + 16);
    // Lanes behind the last token are multiplied (and then ignored): they must be finite.
    std::memset(local, 0, size_t(pages) * size_t(shape.kv_heads) * 2 * size_t(plane()) * 4);
  }

  // What a segment adds to its pages; local ones hold the prefix as well.
  void write_all(int segment, int head) const {
    const Batch::Segment& s = batch.segments[size_t(segment)];
    for (int position = local ? 0 : s.start; position < s.start + s.count; position++) write(segment, head, position);
  }

  void write(int segment, int head, int position) const {
    const Batch::Segment& s = batch.segments[size_t(segment)];
    const int64_t at = (row_of(s, position) * shape.kv_heads + head) * shape.head_dim;
    page(segment, head, position / kPage).write(position % kPage, k->data + at, v->data + at);
  }

  KvPage page(int segment, int head, int index) const {
    if (local) {
      const int p = local_page[size_t(segment)] + index;
      return {element, shape.head_dim, local_plane(p, head, 0), local_plane(p, head, 1)};
    }
    const int sequence = batch.segments[size_t(segment)].sequence;
    return {element, shape.head_dim, run.kv->k(shape.layer, sequence, index, head), run.kv->v(shape.layer, sequence, index, head)};
  }
};

// Working memory of a task.
float* task_scratch(size_t floats) {
  thread_local std::vector<float> memory;
  if (memory.size() < floats) memory.resize(floats);
  return memory.data();
}

// Rows of a tile: query token t of the tile and head h of the group is row t * group + h.
struct Tile {
  int segment, head, first, count;  // tokens [first, first + count) of the segment
};

void gather(const Attend& a, const Tile& t, const float* from, float* to) {
  const int g = a.group(), d = a.shape.head_dim;
  const int64_t row = int64_t(a.shape.heads) * d;
  for (int i = 0; i < t.count; i++)
    std::memcpy(to + int64_t(i) * g * d, from + (a.batch.segments[size_t(t.segment)].first + t.first + i) * row + int64_t(t.head) * g * d,
                size_t(g) * d * 4);
}

// The keys of a page that a query at `position` of a segment that ends at `end` sees: [first, last).
struct Span {
  int first, last;
};
Span visible(const Attention& shape, int position, int end, int page_start) {
  const int last = std::clamp((shape.causal ? position + 1 : end) - page_start, 0, kPage);
  const int first = shape.window > 0 ? std::clamp(position + 1 - shape.window - page_start, 0, last) : 0;
  return {first, last};
}

// One page's part of the online softmax: scores become probabilities under the new maximum, what was summed before is rescaled.
void soften(float* scores, Span seen, int width, float& maximum, float& sum, float* output, int d) {
  if (seen.first == seen.last) {
    std::memset(scores, 0, size_t(width) * 4);
    return;
  }
  const float top = std::max(maximum, kernels().maximum(scores + seen.first, seen.last - seen.first));
  const float rescale = maximum == -std::numeric_limits<float>::infinity() ? 0.0f : std::exp(maximum - top);
  const float here = kernels().exp_sum(scores + seen.first, top, seen.last - seen.first);
  std::memset(scores, 0, size_t(seen.first) * 4);
  std::memset(scores + seen.last, 0, size_t(width - seen.last) * 4);
  if (rescale != 1.0f) kernels().scale(rescale, d, output);
  sum = sum * rescale + here;
  maximum = top;
}

void forward_tile(const Attend& a, const Tile& t, Var* out) {
  const int g = a.group(), d = a.shape.head_dim, rows = t.count * g;
  const Batch::Segment& s = a.batch.segments[size_t(t.segment)];
  float* memory = task_scratch(size_t(2 * int64_t(rows) * d + int64_t(rows) * (kPage + 2) + 64));
  float *q = memory, *acc = q + int64_t(rows) * d + 16, *scores = acc + int64_t(rows) * d + 16;
  float *maxima = scores + int64_t(rows) * kPage, *sums = maxima + rows;
  gather(a, t, a.q->data, q);
  const PageQueries queries(a.element, q, rows, d, a.shape.scale);
  std::memset(acc, 0, size_t(rows) * d * 4);
  std::fill(maxima, maxima + rows, -std::numeric_limits<float>::infinity());
  std::fill(sums, sums + rows, 0.0f);
  const int first_position = s.start + t.first, end = s.start + s.count, seen = a.shape.causal ? first_position + t.count : end;
  const int first_page = a.shape.window > 0 ? std::max(0, first_position + 1 - a.shape.window) / kPage : 0;
  for (int index = first_page; index * kPage < seen; index++) {
    const int page_start = index * kPage, width = std::min(kPage, seen - page_start);
    const KvPage page = a.page(t.segment, t.head, index);
    queries.scores(page, width, scores);
    for (int r = 0; r < rows; r++) {
      if (a.shape.soft_cap > 0) kernels().soft_cap(a.shape.soft_cap, width, scores + r * kPage);
      soften(scores + r * kPage, visible(a.shape, first_position + r / g, end, page_start), width, maxima[r], sums[r], acc + int64_t(r) * d,
             d);
    }
    page.add_values(scores, rows, width, acc);
  }
  for (int r = 0; r < rows; r++) {
    const int64_t token = a.batch.segments[size_t(t.segment)].first + t.first + r / g, head = t.head * g + r % g;
    kernels().scale(1.0f / sums[r], d, acc + int64_t(r) * d);
    std::memcpy(out->data + (token * a.shape.heads + head) * d, acc + int64_t(r) * d, size_t(d) * 4);
    if (a.log_sums) a.log_sums[token * a.shape.heads + head] = maxima[r] + std::log(sums[r]);
  }
}

std::vector<Tile> tiles(const Attend& a) {
  std::vector<Tile> list;
  for (int s = 0; s < int(a.batch.segments.size()); s++)
    for (int first = 0; first < a.batch.segments[size_t(s)].count; first += kTile)
      for (int h = 0; h < a.shape.kv_heads; h++) list.push_back({s, h, first, std::min(kTile, a.batch.segments[size_t(s)].count - first)});
  // Late tiles see the most keys: starting with them balances the end.
  std::reverse(list.begin(), list.end());
  return list;
}

// ---- backward. With P the probabilities, O the output, dO its gradient:
//   dV = P^T dO    dS = scale * P * (dO V^T - rowsum(dO * O))    dQ = dS K    dK = dS^T Q
// Where scores are capped, dS is multiplied by the cap's slope.

struct BackScratch {
  float *q, *dq, *o, *dout, *p, *ds, *k_panels, *v_panels, *k, *dk, *dv, *along;
};

// Keys [first, first + n) of a segment's sequence as rows (kPage, d) and, like the values, as panels [4][d][16].
void take_page(const Attend& a, const Batch::Segment& s, int head, int first, int n, const BackScratch& w) {
  const int d = a.shape.head_dim;
  for (int i = 0; i < kPage; i++) {
    const int64_t at = (a.row_of(s, first + std::min(i, n - 1)) * a.shape.kv_heads + head) * d, lane = int64_t(i / 16) * d * 16 + i % 16;
    const float *key = a.k->data + at, *value = a.v->data + at;
    for (int j = 0; j < d; j++) w.k_panels[lane + j * 16] = key[j];
    for (int j = 0; j < d; j++) w.v_panels[lane + j * 16] = value[j];
    std::memcpy(w.k + int64_t(i) * d, key, size_t(d) * 4);
  }
  std::memset(w.dk, 0, size_t(a.plane()) * 4);
  std::memset(w.dv, 0, size_t(a.plane()) * 4);
}

// One tile of queries against one page: adds to dq, dk and dv of the scratch.
void back_page(const Attend& a, const Tile& t, int page_start, const BackScratch& w) {
  const int g = a.group(), d = a.shape.head_dim, rows = t.count * g;
  const Batch::Segment& s = a.batch.segments[size_t(t.segment)];
  const int first_position = s.start + t.first, end = s.start + s.count,
            width = std::min(kPage, (a.shape.causal ? first_position + t.count : end) - page_start);
  kernels().gemm_f32({w.q, d, 1, w.k_panels, int64_t(d) * 16, 16, w.p, kPage, rows, width, d, a.shape.scale, false});
  kernels().gemm_f32({w.dout, d, 1, w.v_panels, int64_t(d) * 16, 16, w.ds, kPage, rows, width, d, 1.0f, false});
  for (int r = 0; r < rows; r++) {
    float *p = w.p + r * kPage, *ds = w.ds + r * kPage;
    const Span seen = visible(a.shape, first_position + r / g, end, page_start);
    const int64_t token = s.first + t.first + r / g;
    float along = w.along[r];
    if (a.shape.soft_cap > 0) {
      kernels().soft_cap(a.shape.soft_cap, width, p);
      for (int j = 0; j < width; j++) ds[j] -= along;
      kernels().soft_cap_back(a.shape.soft_cap, p, width, ds);
      along = 0;
    }
    kernels().exp_sum(p + seen.first, a.log_sums[token * a.shape.heads + t.head * g + r % g], seen.last - seen.first);
    std::fill(p, p + seen.first, 0.0f);
    std::fill(p + seen.last, p + width, 0.0f);
    for (int j = 0; j < width; j++) ds[j] = p[j] * (ds[j] - along) * a.shape.scale;
  }
  kernels().gemm_f32({w.p, 1, kPage, w.dout, 16, d, w.dv, d, width, d, rows, 1.0f, true});
  kernels().gemm_f32({w.ds, kPage, 1, w.k, 16, d, w.dq, d, rows, d, width, 1.0f, true});
  kernels().gemm_f32({w.ds, 1, kPage, w.q, 16, d, w.dk, d, width, d, rows, 1.0f, true});
}

// Everything of one key head of one segment: no two tasks add to the same rows. What flows into a prefix, which other segments see as well,
// goes to prefix_grad (2, start, kv_heads * d): keys, then values.
void back_head(const Attend& a, const Var* out, int segment, int head, float* prefix_grad) {
  const int g = a.group(), d = a.shape.head_dim, most = kTile * g;
  const Batch::Segment& s = a.batch.segments[size_t(segment)];
  const int64_t tile = int64_t(most) * d + 16, scores = int64_t(most) * kPage, plane = a.plane() + 16,
                kv_row = int64_t(a.shape.kv_heads) * d;
  float* m = task_scratch(size_t(4 * tile + 2 * scores + 5 * plane + most + 64));
  float *pages = m + 4 * tile + 2 * scores, *p = m + 4 * tile;
  const BackScratch w{m,
                      m + tile,
                      m + 2 * tile,
                      m + 3 * tile,
                      p,
                      p + scores,
                      pages,
                      pages + plane,
                      pages + 2 * plane,
                      pages + 3 * plane,
                      pages + 4 * plane,
                      pages + 5 * plane};
  const int end = s.start + s.count;
  for (int page_start = 0; page_start < end; page_start += kPage) {
    const int keys = std::min(kPage, end - page_start);
    take_page(a, s, head, page_start, keys, w);
    for (int first = a.shape.causal ? std::max(0, page_start - s.start) / kTile * kTile : 0; first < s.count; first += kTile) {
      const Tile t{segment, head, first, std::min(kTile, s.count - first)};
      if (a.shape.window > 0 && s.start + first + 1 - a.shape.window >= page_start + kPage) break;
      gather(a, t, a.q->data, w.q);
      gather(a, t, out->data, w.o);
      gather(a, t, out->grad, w.dout);
      std::memset(w.dq, 0, size_t(t.count) * g * d * 4);
      for (int r = 0; r < t.count * g; r++) w.along[r] = kernels().dot(w.dout + int64_t(r) * d, w.o + int64_t(r) * d, d);
      back_page(a, t, page_start, w);
      for (int i = 0; i < t.count; i++)
        kernels().add(w.dq + int64_t(i) * g * d, int64_t(g) * d,
                      a.q->grad + (int64_t(s.first + t.first + i) * a.shape.heads + head * g) * d);
    }
    for (int i = 0; i < keys; i++) {
      const int position = page_start + i;
      const bool shared = position < s.start;
      const int64_t at = (shared ? position : a.row_of(s, position)) * kv_row + int64_t(head) * d;
      kernels().add(w.dk + int64_t(i) * d, d, (shared ? prefix_grad : a.k->grad) + at);
      kernels().add(w.dv + int64_t(i) * d, d, (shared ? prefix_grad + s.start * kv_row : a.v->grad) + at);
    }
  }
}

// The way back of the whole batch. Segments add to their prefix in their order, so that sums do not depend on threads.
void back_all(const Attend& a, const Var* out) {
  const std::vector<Batch::Segment>& segments = a.batch.segments;
  const int64_t kv_row = int64_t(a.shape.kv_heads) * a.shape.head_dim;
  Arena::Mark mark = a.run.arena.mark();
  std::vector<float*> shared(segments.size(), nullptr);
  for (size_t i = 0; i < segments.size(); i++) {
    if (segments[i].start == 0) continue;
    shared[i] = a.run.arena.get<float>(size_t(2 * segments[i].start * kv_row));
    std::memset(shared[i], 0, size_t(2 * segments[i].start * kv_row) * 4);
  }
  a.run.pool.run(int(segments.size()) * a.shape.kv_heads,
                 [&](int i) { back_head(a, out, i / a.shape.kv_heads, i % a.shape.kv_heads, shared[size_t(i / a.shape.kv_heads)]); });
  for (size_t i = 0; i < segments.size(); i++) {
    if (!shared[i]) continue;
    const int64_t count = segments[i].start * kv_row, at = segments[size_t(segments[i].prefix)].first * kv_row;
    kernels().add(shared[i], count, a.k->grad + at);
    kernels().add(shared[i] + count, count, a.v->grad + at);
  }
  a.run.arena.release(mark);
}

// Each row's scores and values, of every key that it sees. A segment's keys and values are read once for all of its rows.
OpWork work_of(const Run& run, const Var* q, const Var* k, const Attention& shape, const Batch& batch) {
  const auto seen = [&](int tokens) { return shape.window > 0 ? std::min(tokens, shape.window) : tokens; };
  double keys = 0, read = 0;
  for (const Batch::Segment& s : batch.segments) {
    for (int i = 1; i <= s.count; i++) keys += shape.causal ? seen(s.start + i) : s.count;
    read += seen(s.start + 1) + s.count - 1;
  }
  const Format* element = run.kv ? run.kv->element() : find_format("F32");
  const double token_bytes = double(KvCache::Shape{1, shape.kv_heads, shape.head_dim}.token_bytes(element));
  return {"attention", 4 * keys * q->cols, 0, 0, read * token_bytes + 4 * 2.0 * double(q->count() + k->count())};
}

}  // namespace

Var* attention(Run& run, Var* q, Var* k, Var* v, const Attention& shape, const Batch& batch) {
  CHECK(shape.head_dim <= 1024 && shape.heads % shape.kv_heads == 0, "heads are shared evenly");
  CHECK(shape.causal || (!run.kv && shape.window == 0), "what sees what comes later is in the batch");
  const OpTimer timer(run.times, [&] { return work_of(run, q, k, shape, batch); });
  Var* out = run.make(q->rows, q->cols);
  out->needs_grad = q->needs_grad || k->needs_grad || v->needs_grad;
  float* log_sums = out->needs_grad ? run.arena.get<float>(size_t(q->rows) * shape.heads) : nullptr;
  Arena::Mark mark = run.arena.mark();
  Attend a{run, shape, batch, q, k, v, {}, nullptr, log_sums};
  if (!run.kv) a.make_local();
  const int segments = int(batch.segments.size());
  run.pool.run(segments * shape.kv_heads, [&](int i) { a.write_all(i / shape.kv_heads, i % shape.kv_heads); });
  const std::vector<Tile> list = tiles(a);
  run.pool.run(int(list.size()), [&](int i) { forward_tile(a, list[size_t(i)], out); });
  run.arena.release(mark);
  if (out->needs_grad)
    run.tape->push([&run, q, k, v, out, shape, &batch, log_sums] {
      if (!out->grad) return;
      for (Var* x : {q, k, v}) run.tape->grad(*x);
      back_all(Attend{run, shape, batch, q, k, v, {}, nullptr, log_sums}, out);
    });
  return out;
}

}  // namespace fettle
