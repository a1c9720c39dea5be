// The linear layer: chooses panels for what the pass is for, shares the conversion of x among linears that read the same input, and knows
// the way back. Integer panels take int8 activations, one scale per 32 inputs (absmax); a low-rank adapter is f32 on top of whatever the
// base is.
#include "op/linear.h"

#include <algorithm>
#include <cstring>

#include "op/adapter.h"
#include "op/kernels.h"
#include "op/op_times.h"
#include "op/panels.h"

namespace fettle {

Linear::Use forward_use(Precision precision) {
  return precision == Precision::exact ? Linear::forward_f32 : precision == Precision::mixed ? Linear::forward_bf16 : Linear::serving;
}

Linear::Linear(std::string name_, Tensor weight_, const float* bias_)
    : name(std::move(name_)), weight(weight_), bias(bias_), in(int(weight_.shape.cols())), out(int(weight_.shape.rows())) {}
Linear::~Linear() = default;
Linear::Linear(Linear&&) noexcept = default;
Linear& Linear::operator=(Linear&&) noexcept = default;

const Panels& Linear::panels(Use use, Pool& pool) const { return panels(use, pool, nullptr); }

const Panels& Linear::panels(Use use, Pool& pool, PanelSlab* slab) const {
  std::shared_ptr<Panels>& slot = panels_[use];
  if (slot) return *slot;
  const bool back = use == backward_bf16 || use == backward_f32;
  if (use == serving && has_integer_panels(weight)) {
    slot = std::make_shared<Panels>(make_integer_panels(weight, pool, slab));
  } else if (use == forward_f32 || use == backward_f32) {
    slot = std::make_shared<Panels>(make_f32_panels(weight, back, pool, slab));
  } else {
    slot = std::make_shared<Panels>(make_bf16_panels(weight, back, pool, slab));
  }
  return *slot;
}

void Linear::drop_panels(Use use) { panels_[use].reset(); }

int64_t Linear::missing_panel_bytes(Use use) const {
  if (panels_[use]) return 0;
  const bool back = use == backward_bf16 || use == backward_f32;
  const int64_t outputs = back ? in : out, inputs = back ? out : in, panels = (outputs + 15) / 16;
  if (use == serving && has_integer_panels(weight)) return panels * integer_layout(*weight.format).panel_bytes(inputs);
  return panels * 16 * (use == forward_f32 || use == backward_f32 ? inputs * 4 : (inputs + 1) / 2 * 4);
}

int64_t missing_panel_bytes(std::span<const Linear* const> linears, Linear::Use use) {
  int64_t bytes = 0;
  for (const Linear* l : linears) bytes += l->missing_panel_bytes(use);
  return bytes;
}

void make_panels(std::span<const Linear* const> linears, Linear::Use use, Pool& pool, const std::function<void(const Linear&)>& made) {
  // a weight's panels end on any byte, the next one's start on a line
  PanelSlab slab(size_t(missing_panel_bytes(linears, use)) + linears.size() * 64);
  for (const Linear* l : linears) {
    l->panels(use, pool, &slab);
    made(*l);
  }
}

int64_t Linear::panel_bytes() const {
  int64_t bytes = 0;
  for (const auto& p : panels_) bytes += p ? int64_t(p->memory.bytes()) : 0;
  return bytes;
}

namespace {

// ---- integer products

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

void quantize_rows(Run& run, const Var* x, const Quantized& q, std::span<const GroupSums> sums) {
  const int n = x->cols, each = 16;
  run.pool.run((x->rows + each - 1) / each, [&](int i) {
    const int64_t first = i * each, last = std::min(x->rows, (i + 1) * each);
    for (int64_t r = first; r < last; r++)
      kernels().quantize_row(x->data + r * n, n, q.codes + r * n, q.stride, q.scales + r, q.offsets + r, q.sums + r);
    for (const GroupSums& s : sums) s.fill(q, n, first, last);
  });
}

struct IntTask {
  int product, first, last;
};

// x quantized, and the products that read it: all but their tasks' ranges of panels.
std::span<const GemmInt8> products_of(Run& run, const Var* x, std::span<const Panels* const> panels, std::span<Var*> out) {
  const int64_t stride = ((x->rows + 15) / 16 | 1) * 16;
  const size_t blocks = size_t(stride) * size_t(x->cols / 32);
  const Quantized q{run.arena.get<int8_t>(size_t(x->count()) + 64), run.arena.get<float>(blocks), run.arena.get<float>(blocks),
                    run.arena.get<int32_t>(2 * blocks), stride};
  GemmInt8* products = run.arena.get<GemmInt8>(panels.size());
  GroupSums* sums = run.arena.get<GroupSums>(panels.size());
  size_t different = 0;
  for (size_t i = 0; i < panels.size(); i++) {
    const Panels& p = *panels[i];
    GroupSums* own = std::find_if(sums, sums + different, [&](const GroupSums& s) { return s.serves(p.layout); });
    if (own == sums + different) {
      const size_t count = size_t(stride) * size_t(x->cols / p.layout.group);
      *own = {p.layout, p.layout.affine ? run.arena.get<float>(count) : nullptr, p.layout.affine ? nullptr : run.arena.get<int32_t>(count)};
      different++;
    }
    products[i] = {p.layout, p.memory.get(), p.row_factors.get(), q.codes, q.scales, q.offsets, own->scaled, own->start,
                   stride,   out[i]->data,   out[i]->cols,        x->rows, p.inputs, 0,         0,           p.outputs,
                   nullptr};
  }
  quantize_rows(run, x, q, {sums, different});
  return {products, panels.size()};
}

// All products of one x as one list of tasks: one fork and join for q, k and v.
void multiply_int8(Run& run, const Var* x, std::span<const Panels* const> panels, std::span<Var*> out) {
  const std::span<const GemmInt8> products = products_of(run, x, panels, out);
  const bool streaming = x->rows <= kernels().stream_rows;
  // A task should outlast its hand-over: 64 KiB of codes when they stream from memory, about 2 million products when they are reused.
  // Streams are fastest when they are long, and so the first tasks are: each is nine tenths of a thread's share of what is left.
  const int64_t bytes_per_panel = int64_t(x->cols) * 10, products_per_panel = int64_t(x->cols) * 16 * x->rows;
  const int least = streaming ? int(std::clamp<int64_t>((64 << 10) / bytes_per_panel, 1, 64))
                              : int(std::clamp<int64_t>(2000000 / products_per_panel, 1, 32)) * 2;
  int rest = 0, tasks = 0;
  for (const Panels* p : panels) rest += p->panels();
  IntTask* list = run.arena.get<IntTask>(size_t(rest));
  for (size_t i = 0; i < panels.size(); i++)
    for (int first = 0, last; first < panels[i]->panels(); rest -= last - first, first = last) {
      const int each = streaming ? std::max(least, rest * 9 / (10 * run.pool.threads())) : least;
      last = std::min(first + each, panels[i]->panels());
      list[tasks++] = {int(i), first, last};
    }
  run.pool.run(tasks, [&](int i) {
    GemmInt8 g = products[size_t(list[i].product)];
    g.first_panel = list[i].first;
    g.last_panel = list[i].last;
    if (!streaming) g.scratch = thread_scratch(2 * (size_t(g.k) * 16 + size_t(g.k / g.layout.group) * 128));
    kernels().gemm_int8(g);
  });
}

// Of so many rows, those that are multiplied as bytes: the first ones.
int byte_rows(const Run& run, int rows) { return codes_arithmetic(false) == Arithmetic::int8 ? rows : std::min(run.generated, rows); }

void multiply_integer(Run& run, const Var* x, std::span<const Panels* const> panels, std::span<Var*> out) {
  const int first = byte_rows(run, x->rows);
  if (first > 0) {
    Var drawn = *x;
    drawn.rows = first;
    multiply_int8(run, &drawn, panels, out);
  }
  if (first == x->rows) return;
  const int rows = x->rows - first;
  float** c = run.arena.get<float*>(out.size());
  for (size_t i = 0; i < out.size(); i++) c[i] = out[i]->data + int64_t(first) * out[i]->cols;
  multiply_codes(run, bf16_rows(run, x->data + int64_t(first) * x->cols, rows, x->cols), panels, {c, out.size()});
}

void add_bias(Run& run, const float* bias, Var* y) {
  run.pool.run((y->rows + 31) / 32, [&](int i) {
    for (int r = i * 32; r < std::min(y->rows, i * 32 + 32); r++) kernels().add(bias, y->cols, y->data + int64_t(r) * y->cols);
  });
}

// pairs: x's, made here where bf16 panels need them and the caller has none.
void base_forward(Run& run, Var* x, PairRows pairs, std::span<const Linear* const> linears, std::span<Var*> out) {
  const Panels** integer = run.arena.get<const Panels*>(linears.size());
  Var** targets = run.arena.get<Var*>(linears.size());
  size_t integers = 0;
  for (size_t i = 0; i < linears.size(); i++) {
    const Panels& p = linears[i]->panels(forward_use(run.precision), run.pool);
    if (p.kind == Panels::integer) {
      integer[integers] = &p;
      targets[integers++] = out[i];
    } else if (p.kind == Panels::bfloat) {
      if (!pairs) pairs = bf16_rows(run, x->data, x->rows, x->cols);
      multiply_bf16(run, pairs, p, out[i]->data, false);
    } else {
      multiply(run, x->data, x->rows, p, out[i]->data, false);
    }
  }
  if (integers) multiply_integer(run, x, {integer, integers}, {targets, integers});
}

// Whether a pass multiplies what is not the base's in bf16 too.
bool takes_pairs(const Run& run) { return run.precision == Precision::mixed && pairs_pay(); }

// "blk.3.attn_q.weight" -> "attn_q". The embedding's table is multiplied by nowhere but as the head.
std::string role(std::string_view name) {
  if (name.starts_with("blk.")) name.remove_prefix(name.find('.', 4) + 1);
  if (name.ends_with(".weight")) name.remove_suffix(7);
  return std::string(name == "token_embd" ? "output" : name);
}

OpWork work_of(const Run& run, const Var* x, std::span<const Linear* const> linears) {
  OpWork work;
  work.bytes = 4.0 * double(x->count());
  for (const Linear* l : linears) {
    const Panels::Kind kind = l->panels(forward_use(run.precision), run.pool).kind;
    const int as_bytes = kind == Panels::integer ? byte_rows(run, x->rows) : 0;
    const double each = 2.0 * l->in * l->out;  // operations of a row
    work.name += (work.name.empty() ? "" : "+") + role(l->name);
    work.int8 += as_bytes * each;
    (kind == Panels::f32 ? work.f32 : work.bf16) += (x->rows - as_bytes) * each;
    work.bytes += double(l->weight.bytes.size()) + 4.0 * (x->rows + (l->bias ? 1 : 0)) * l->out;
    if (!l->adapter) continue;
    const double factors = double(l->adapter->rank) * (l->in + l->out);
    (takes_pairs(run) ? work.bf16 : work.f32) += 2 * x->rows * factors;
    work.bytes += 4 * factors;
  }
  return work;
}

// dW += dy^T x
void weight_back(Run& run, const Var* x, Trained& w, const Var* y) {
  Arena::Mark mark = run.arena.mark();
  Rows in = readable(run, x->data, x->rows, x->cols);
  multiply_f32(run.pool, {y->grad, 1, y->cols, in.data, 16, in.stride, w.grad.data(), x->cols, y->cols, x->cols, x->rows, 1.0f, true});
  run.arena.release(mark);
}

// With W = (1 + p) S + (1 + q) M, where S and M are what a block's scale and min make: dp = sum dW S, dq = sum dW M over the block. Without
// a min of its own, M follows the scale.
void scales_back(Run& run, const Var* x, const Linear& one, const Var* y) {
  TrainedScales& s = *one.scales;
  const Format& f = *one.weight.format;
  Arena::Mark mark = run.arena.mark();
  Rows in = readable(run, x->data, x->rows, x->cols);
  float* dw = run.arena.get<float>(size_t(one.out) * size_t(one.in) + 16);
  multiply_f32(run.pool, {y->grad, 1, y->cols, in.data, 16, in.stride, dw, x->cols, y->cols, x->cols, x->rows, 1.0f, false});
  const int each = s.mins() ? 2 : 1, row_blocks = one.in / f.block, groups = f.block / f.group;
  run.pool.run((one.out + 15) / 16, [&](int task) {
    std::vector<uint8_t> codes(static_cast<size_t>(one.in));
    std::vector<float> scales(size_t(one.in / f.group)), mins(scales.size());
    for (int64_t r = task * 16; r < std::min(one.out, task * 16 + 16); r++) {
      f.unpack(one.weight.bytes.data() + r * f.bytes_for(one.in), one.in, codes.data(), scales.data(), mins.data());
      for (int b = 0; b < row_blocks; b++) {
        double by_scale = 0, by_min = 0;
        for (int g = b * groups; g < (b + 1) * groups; g++) {
          const float* d = dw + r * one.in + int64_t(g) * f.group;
          float values = 0, sum = 0;
          for (int j = 0; j < f.group; j++) {
            const uint8_t code = codes[size_t(g * f.group + j)];
            values += d[j] * float(f.table ? f.table[code] : code);
            sum += d[j];
          }
          by_scale += double(scales[size_t(g)]) * values;
          by_min += double(mins[size_t(g)]) * sum;
        }
        const size_t at = size_t(r * row_blocks + b) * size_t(each);
        s.grad[at] += float((each == 2 ? by_scale : by_scale + by_min) / (1 + s.value[at]));
        if (each == 2) s.grad[at + 1] += float(by_min / (1 + s.value[at + 1]));
      }
    }
  });
  run.arena.release(mark);
}

bool learns(const Linear& one) {
  return (one.adapter && !one.adapter->db.empty()) || (one.trained && !one.trained->grad.empty()) ||
         (one.scales && !one.scales->grad.empty());
}

void record(Run& run, Var* x, const Linear& one, Var* y, const float* t) {
  const bool into_x = x->needs_grad;
  run.tape->push([&run, x, y, t, into_x, linear = &one] {
    if (!y->grad) return;
    const Arena::Mark mark = run.arena.mark();
    const PairRows pairs = takes_pairs(run) ? bf16_rows(run, y->grad, y->rows, y->cols) : PairRows{};
    if (linear->adapter) adapter_back(run, x, into_x, t, *linear->adapter, y, pairs);
    if (linear->trained && !linear->trained->grad.empty()) weight_back(run, x, *linear->trained, y);
    if (linear->scales && !linear->scales->grad.empty()) scales_back(run, x, *linear, y);
    if (into_x) {
      const Linear::Use use = run.precision == Precision::exact ? Linear::backward_f32 : Linear::backward_bf16;
      const Panels& panels = linear->panels(use, run.pool);
      float* dx = run.tape->grad(*x);
      pairs ? multiply_bf16(run, pairs, panels, dx, true) : multiply(run, y->grad, y->rows, panels, dx, true);
    }
    run.arena.release(mark);
  });
}

}  // namespace

TrainedScales::TrainedScales(const Tensor& weight)
    : before(weight),
      blocks(weight.bytes.begin(), weight.bytes.end()),
      value(size_t(weight.shape.count() / weight.format->block) * (mins() ? 2 : 1)),
      grad(value.size()) {
  CHECK(weight.format->scale_at >= 0, "only blocks have scales");
}

bool TrainedScales::mins() const { return before.format->min_at >= 0; }

void TrainedScales::apply() {
  const Format& f = *before.format;
  const size_t each = mins() ? 2 : 1;
  const auto scaled = [](std::byte* to, const std::byte* from, float change) {
    uint16_t half;
    std::memcpy(&half, from, 2);
    const float x = std::clamp(float_from_half(half) * (1 + change), -65504.0f, 65504.0f);
    half = half_from_float(x);
    std::memcpy(to, &half, 2);
  };
  const std::byte* from = before.bytes.data();
  std::byte* to = blocks.data();
  for (size_t i = 0; i < value.size(); i += each, from += f.block_bytes, to += f.block_bytes) {
    scaled(to + f.scale_at, from + f.scale_at, value[i]);
    if (each == 2) scaled(to + f.min_at, from + f.min_at, value[i + 1]);
  }
}

Arithmetic codes_arithmetic(bool generated) { return kernels().codes_to_pairs && !generated ? Arithmetic::bf16 : Arithmetic::int8; }

void linear(Run& run, Var* x, std::span<const Linear* const> linears, std::span<Var*> out) {
  const OpTimer timer(run.times, [&] { return work_of(run, x, linears); });
  float** t = run.arena.get<float*>(linears.size());  // what adapters keep for the way back
  for (size_t i = 0; i < linears.size(); i++) {
    const Linear& one = *linears[i];
    CHECK(one.in == x->cols, "a linear's input has its width");
    out[i] = run.make(x->rows, one.out);
    t[i] = one.adapter ? run.arena.get<float>(size_t(x->rows) * one.adapter->rank + 16) : nullptr;
    if (run.tap) run.tap->input(one, x->data, x->rows);
  }
  const Arena::Mark mark = run.arena.mark();
  const PairRows pairs = takes_pairs(run) ? bf16_rows(run, x->data, x->rows, x->cols) : PairRows{};
  base_forward(run, x, pairs, linears, out);
  for (size_t i = 0; i < linears.size(); i++) {
    const Linear& one = *linears[i];
    if (one.bias) add_bias(run, one.bias, out[i]);
    if (one.adapter) adapter_forward(run, x, pairs, *one.adapter, t[i], out[i]);
    out[i]->needs_grad = run.tape && (x->needs_grad || learns(one));
  }
  run.arena.release(mark);
  for (size_t i = 0; i < linears.size(); i++)
    if (out[i]->needs_grad) record(run, x, *linears[i], out[i], t[i]);
}

Var* linear(Run& run, Var* x, const Linear& one) {
  const Linear* list[] = {&one};
  Var* out[1];
  linear(run, x, list, out);
  return out[0];
}

Var* embed(Run& run, const Linear& table, std::span<const int> ids) {
  Var* y = run.make(int(ids.size()), table.in, false);
  const int64_t row = table.weight.format->bytes_for(table.in);
  const OpTimer timer(run.times, [&] { return OpWork{"embed", 0, 0, 0, double(y->rows * row) + 4.0 * double(y->count())}; });
  run.pool.run((y->rows + 15) / 16, [&](int i) {
    for (int r = i * 16; r < std::min(y->rows, i * 16 + 16); r++)
      table.weight.format->decode(table.weight.bytes.data() + ids[size_t(r)] * row, y->data + int64_t(r) * table.in, table.in);
  });
  return y;
}

}  // namespace fettle
