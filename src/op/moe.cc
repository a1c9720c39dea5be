#include "op/moe.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "op/kernels.h"
#include "op/op.h"
#include "op/tasks.h"

namespace fettle {
namespace {

constexpr float kLeastSum = 1e-20f;  // sigmoids may all be zero

// The largest of those that are not taken; of equal ones the first.
void largest(const float* logits, int n, int count, int* chosen) {
  int found = 0;
  for (int e = 0; e < n; e++) {
    if (found == count && !(logits[e] > logits[chosen[count - 1]])) continue;
    int at = found < count ? found++ : count - 1;
    for (; at > 0 && logits[e] > logits[chosen[at - 1]]; at--) chosen[at] = chosen[at - 1];
    chosen[at] = e;
  }
}

// Choice s of the sparse mixer: p (experts) becomes the probabilities among the experts that are left and near enough to the largest.
void mixer_probabilities(const Routing& r, const float* logits, const int* chosen, int s, float* p) {
  const float top = logits[chosen[s]];
  float sum = 0;
  for (int e = 0; e < r.experts; e++) {
    const bool taken = std::find(chosen, chosen + s, e) != chosen + s;
    const bool far = (top - logits[e]) / std::max(std::fabs(logits[e]), top) > 2 * r.jitter;
    p[e] = taken || far ? 0 : std::exp(logits[e] - top);
    sum += p[e];
  }
  for (int e = 0; e < r.experts; e++) p[e] /= sum;
}

// p (experts): probabilities, or sigmoids, of all.
void gates(const Routing& r, const float* logits, float* p) {
  if (r.gate == Routing::sigmoid) {
    for (int e = 0; e < r.experts; e++) p[e] = 1 / (1 + std::exp(-logits[e]));
    return;
  }
  std::copy_n(logits, r.experts, p);
  const float sum = kernels().exp_sum(p, *std::max_element(p, p + r.experts), r.experts);
  for (int e = 0; e < r.experts; e++) p[e] /= sum;
}

// p: room for (experts) floats and a vector more.
void route_row(const Routing& r, const float* logits, int* chosen, float* weights, float* p) {
  largest(logits, r.experts, r.used, chosen);
  if (r.gate == Routing::sparse_mixer) {
    for (int s = 0; s < r.used; s++) {
      mixer_probabilities(r, logits, chosen, s, p);
      weights[s] = r.scale * p[chosen[s]];
    }
    return;
  }
  gates(r, logits, p);
  float sum = kLeastSum;
  for (int s = 0; s < r.used; s++) sum += p[chosen[s]];
  for (int s = 0; s < r.used; s++) weights[s] = r.scale * p[chosen[s]] / (r.renormalized ? sum : 1);
}

// dlogits += what dweights say; choices count as given.
void route_row_back(const Routing& r, const float* logits, const int* chosen, const float* dweights, float* dlogits, float* p) {
  if (r.gate == Routing::sparse_mixer) {
    for (int s = 0; s < r.used; s++) {
      mixer_probabilities(r, logits, chosen, s, p);
      const float along = r.scale * dweights[s] * p[chosen[s]];
      for (int e = 0; e < r.experts; e++) dlogits[e] -= along * p[e];
      dlogits[chosen[s]] += along;
    }
    return;
  }
  gates(r, logits, p);
  float sum = kLeastSum, along = 0;  // of the chosen gates; of dweights along the weights
  for (int s = 0; s < r.used; s++) {
    sum += p[chosen[s]];
    along += dweights[s] * p[chosen[s]];
  }
  // With weights g / sum(g): d(g) = (dw - sum dw w) / sum(g).
  const float less = r.renormalized ? along / sum : 0, factor = r.renormalized ? r.scale / sum : r.scale;
  for (int s = 0; s < r.used; s++) {
    const float g = p[chosen[s]], dg = factor * (dweights[s] - less);
    dlogits[chosen[s]] += dg * g * (r.gate == Routing::sigmoid ? 1 - g : 1);
  }
  // A softmax's sum holds every logit; over renormalized weights these parts cancel.
  if (r.gate == Routing::softmax && !r.renormalized)
    for (int e = 0; e < r.experts; e++) dlogits[e] -= r.scale * along * p[e];
}

// Where rows go. Choice s of row r stands at place[r * used + s] among the grouped rows, and there from[] says r.
struct Places {
  int used, rows;
  int *chosen, *place, *from;  // (rows, used) each
  float* weights;              // (rows, used)
  std::span<const RowGroup> gate_up, down;

  int all() const { return rows * used; }
};

// Experts' rows stand in the order of the batch, those of the first `apart` rows of the batch before all others: answers keep together,
// because their products may be other ones than those of prompts (Run::generated). empty: experts without rows have groups too.
Places arrange(Run& run, const Var* logits, const Routing& r, std::span<const Expert> experts, int apart, bool empty) {
  const int rows = logits->rows, n = r.experts;
  Places p{r.used, rows, nullptr, nullptr, nullptr, nullptr, {}, {}};
  p.chosen = run.arena.get<int>(size_t(p.all()));
  p.place = run.arena.get<int>(size_t(p.all()));
  p.from = run.arena.get<int>(size_t(p.all()));
  p.weights = run.arena.get<float>(size_t(p.all()));
  by_rows(run.pool, rows, int64_t(n) * r.used, [&](int first, int last) {
    thread_local std::vector<float> room;
    room.resize(size_t(n) + 16);
    for (int64_t i = first; i < last; i++) route_row(r, logits->data + i * n, p.chosen + i * r.used, p.weights + i * r.used, room.data());
  });
  int* next = run.arena.get<int>(size_t(2 * n));  // rows of each expert, then the place of its next one: of answers, of prompts
  std::fill_n(next, 2 * n, 0);
  const auto group = [&](int i) { return (i / r.used < apart ? 0 : n) + p.chosen[i]; };
  for (int i = 0; i < p.all(); i++) next[group(i)]++;
  RowGroup* groups = run.arena.get<RowGroup>(size_t(4 * n));
  const Linear** linears = run.arena.get<const Linear*>(size_t(3 * n));
  size_t count = 0;
  for (int e = 0; e < n; e++) {
    linears[3 * e] = &experts[size_t(e)].gate;
    linears[3 * e + 1] = &experts[size_t(e)].up;
    linears[3 * e + 2] = &experts[size_t(e)].down;
  }
  for (int g = 0, start = 0; g < 2 * n; g++) {
    const int here = next[g];
    next[g] = start;
    start += here;
    if (here == 0 && !(empty && g >= n)) continue;
    groups[count] = {here, {linears + 3 * (g % n), 2}};
    groups[2 * n + int(count)] = {here, {linears + 3 * (g % n) + 2, 1}};
    count++;
  }
  for (int i = 0; i < p.all(); i++) {
    p.place[i] = next[group(i)]++;
    p.from[p.place[i]] = i / r.used;
  }
  p.gate_up = {groups, count};
  p.down = {groups + 2 * n, count};
  return p;
}

// The rows of x in their places.
Var* gather(Run& run, Var* x, const Places& p) {
  const int n = x->cols;
  Var* y = run.make(p.all(), n, x->needs_grad);
  by_rows(run.pool, p.all(), n, [&](int first, int last) {
    for (int64_t i = first; i < last; i++) std::memcpy(y->data + i * n, x->data + int64_t(p.from[i]) * n, size_t(n) * 4);
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, x, y, p, n] {
    if (!y->grad) return;
    float* dx = run.tape->grad(*x);
    by_rows(run.pool, p.rows, int64_t(n) * p.used, [&](int first, int last) {
      for (int64_t i = int64_t(first) * p.used; i < int64_t(last) * p.used; i++)
        kernels().add(y->grad + int64_t(p.place[i]) * n, n, dx + i / p.used * n);
    });
  });
  return y;
}

// y = sum of a row's weighted places in x.
Var* combine(Run& run, Var* x, Var* logits, const Routing& routing, const Places& p) {
  const int n = x->cols;
  Var* y = run.make(p.rows, n, x->needs_grad || logits->needs_grad);
  by_rows(run.pool, p.rows, int64_t(n) * p.used, [&](int first, int last) {
    for (int64_t r = first; r < last; r++) {
      std::memset(y->data + r * n, 0, size_t(n) * 4);
      for (int64_t i = r * p.used; i < (r + 1) * p.used; i++)
        kernels().axpy(p.weights[i], x->data + int64_t(p.place[i]) * n, n, y->data + r * n);
    }
  });
  if (!y->needs_grad) return y;
  run.tape->push([&run, x, logits, routing, y, p, n] {
    if (!y->grad) return;
    float *dx = x->needs_grad ? run.tape->grad(*x) : nullptr, *dlogits = logits->needs_grad ? run.tape->grad(*logits) : nullptr;
    by_rows(run.pool, p.rows, int64_t(n) * p.used, [&](int first, int last) {
      thread_local std::vector<float> room;
      room.resize(size_t(routing.experts + routing.used) + 16);
      float* dweights = room.data() + routing.experts + 16;
      for (int64_t r = first; r < last; r++) {
        for (int64_t s = 0, i = r * p.used; s < p.used; s++, i++) {
          if (dx) kernels().axpy(p.weights[i], y->grad + r * n, n, dx + int64_t(p.place[i]) * n);
          if (dlogits) dweights[s] = kernels().dot(y->grad + r * n, x->data + int64_t(p.place[i]) * n, n);
        }
        const int64_t at = r * routing.experts;
        if (dlogits) route_row_back(routing, logits->data + at, p.chosen + r * p.used, dweights, dlogits + at, room.data());
      }
    });
  });
  return y;
}

bool has_adapters(std::span<const Expert> experts) {
  return std::any_of(experts.begin(), experts.end(), [](const Expert& e) { return e.gate.adapter || e.up.adapter || e.down.adapter; });
}

}  // namespace

void route(const Routing& routing, const float* logits, int* experts, float* weights) {
  std::vector<float> room(size_t(routing.experts) + 16);
  route_row(routing, logits, experts, weights, room.data());
}

Var* mixture(Run& run, Var* x, Var* logits, const Routing& routing, std::span<const Expert> experts) {
  CHECK(int(experts.size()) == routing.experts && logits->cols == routing.experts && logits->rows == x->rows, "a logit for each expert");
  CHECK(routing.used > 0 && routing.used <= routing.experts, "some experts are used");
  const int generated = run.generated;
  const int apart = codes_arithmetic(false) == Arithmetic::int8 ? 0 : std::min(generated, x->rows);
  const Places p = arrange(run, logits, routing, experts, apart, run.tap);
  const bool as_it_lies = run.precision == Precision::serving && !run.tape && !run.tap && !has_adapters(experts);
  run.generated = apart * routing.used;
  Var *wide[2], *out[1];
  as_it_lies ? linear(run, x, p.from, p.gate_up, wide) : linear(run, gather(run, x, p), nullptr, p.gate_up, wide);
  linear(run, swiglu(run, wide[0], wide[1]), nullptr, p.down, out);
  run.generated = generated;
  const OpTimer timer(run.times, [&] { return OpWork{"mixture", 2.0 * p.all() * x->cols, 0, 0, 4.0 * (p.all() + p.rows) * x->cols}; });
  return combine(run, out[0], logits, routing, p);
}

void gate_rows(Run& run, Var* y, Var* gate) {
  const OpTimer timer(run.times, [&] { return OpWork{"gate_rows", double(y->count()), 0, 0, 4 * 2.0 * double(y->count())}; });
  const int n = y->cols;
  float* factors = run.arena.get<float>(size_t(y->rows));
  float* before = run.tape && gate->needs_grad ? run.arena.get<float>(size_t(y->count())) : nullptr;
  if (before) std::memcpy(before, y->data, size_t(y->count()) * 4);
  by_rows(run.pool, y->rows, n, [&](int first, int last) {
    for (int64_t r = first; r < last; r++) {
      factors[r] = 1 / (1 + std::exp(-gate->data[r]));
      kernels().scale(factors[r], n, y->data + r * n);
    }
  });
  const bool into_y = y->needs_grad;
  y->needs_grad |= run.tape && gate->needs_grad;
  if (!y->needs_grad) return;
  run.tape->push([&run, y, gate, factors, before, into_y, n] {
    if (!y->grad) return;
    float* dgate = gate->needs_grad ? run.tape->grad(*gate) : nullptr;
    by_rows(run.pool, y->rows, n, [&](int first, int last) {
      for (int64_t r = first; r < last; r++) {
        float *dy = y->grad + r * n, f = factors[r];
        if (dgate) dgate[r] += f * (1 - f) * kernels().dot(dy, before + r * n, n);
        if (into_y) kernels().scale(f, n, dy);
      }
    });
  });
}

}  // namespace fettle
