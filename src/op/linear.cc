// The linear layer: chooses panels for what the pass is for, shares the conversion of x among linears that read the same input, and knows
// the way back. A low-rank adapter is f32 on top of whatever the base is.
#include "op/linear.h"

#include <algorithm>
#include <cstring>

#include "op/adapter.h"
#include "op/integer_product.h"
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

static bool goes_back(Linear::Use use) { return use == Linear::backward_bf16 || use == Linear::backward_f32; }

Linear::Use Linear::made_for(Use use) const { return !exact ? use : goes_back(use) ? backward_f32 : forward_f32; }

const Panels& Linear::panels(Use use, Pool& pool) const { return panels(use, pool, nullptr); }

const Panels& Linear::panels(Use use, Pool& pool, PanelSlab* slab) const {
  use = made_for(use);
  std::shared_ptr<Panels>& slot = panels_[use];
  if (slot) return *slot;
  const bool back = goes_back(use);
  if (use == serving && has_integer_panels(weight)) {
    slot = std::make_shared<Panels>(make_integer_panels(weight, pool, slab));
  } else if (use == forward_f32 || use == backward_f32) {
    slot = std::make_shared<Panels>(make_f32_panels(weight, back, pool, slab));
  } else {
    slot = std::make_shared<Panels>(make_bf16_panels(weight, back, pool, slab));
  }
  return *slot;
}

void Linear::drop_panels(Use use) { panels_[made_for(use)].reset(); }

int64_t Linear::missing_panel_bytes(Use use) const {
  use = made_for(use);
  if (panels_[use]) return 0;
  const bool back = goes_back(use);
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

// One product of a call: some rows of its input by one linear.
struct Part {
  const Linear* linear;
  int group;  // whose rows
  Var* y;     // (all rows, out)
  float* t;   // what an adapter keeps for the way back: (rows, rank)
};
// What a call multiplies.
struct Call {
  Source source;
  std::span<const RowRange> groups;
  std::span<Part> parts;  // those of a group follow one another

  const RowRange& rows(const Part& part) const { return groups[size_t(part.group)]; }
};

// Some rows of a matrix as a matrix.
Var view(const Var& v, const RowRange& rows) {
  Var part = v;
  part.data += int64_t(rows.first) * v.cols;
  part.grad = v.grad ? v.grad + int64_t(rows.first) * v.cols : nullptr;
  part.rows = rows.count;
  return part;
}

void add_bias(Run& run, const float* bias, const Var& y) {
  run.pool.run((y.rows + 31) / 32, [&](int i) {
    for (int r = i * 32; r < std::min(y.rows, i * 32 + 32); r++) kernels().add(bias, y.cols, y.data + int64_t(r) * y.cols);
  });
}

void scale_columns(Run& run, const float* factors, const Var& y) {
  run.pool.run((y.rows + 31) / 32, [&](int i) {
    for (int r = i * 32; r < std::min(y.rows, i * 32 + 32); r++)
      for (int c = 0; c < y.cols; c++) y.data[int64_t(r) * y.cols + c] *= factors[c];
  });
}

// pairs: of each group, made here where bf16 panels need them and the caller has none.
void base_forward(Run& run, const Call& call, std::span<PairRows> pairs, bool have_pairs) {
  const Source& source = call.source;
  IntProduct* integer = run.arena.get<IntProduct>(call.parts.size());
  PanelProduct* bfloat = run.arena.get<PanelProduct>(call.parts.size());
  GemmF32* f32 = run.arena.get<GemmF32>(call.parts.size());
  size_t integers = 0, bfloats = 0, f32s = 0;
  for (const Part& part : call.parts) {
    const RowRange rows = call.rows(part);
    if (rows.count == 0) continue;
    const Panels& p = part.linear->panels(forward_use(run.precision), run.pool);
    float* c = view(*part.y, rows).data;
    if (p.kind == Panels::integer) {
      integer[integers++] = {&p, rows, c};
    } else if (p.kind == Panels::bfloat) {
      if (!have_pairs) bf16_rows(run, source.x->data, source.x->cols, source.from, call.groups, pairs);
      have_pairs = true;
      bfloat[bfloats++] = {pairs[size_t(part.group)], &p, c};
    } else {
      CHECK(!source.from, "f32 products take rows as they lie");
      f32[f32s++] = f32_product(view(*source.x, rows).data, rows.count, p, c, false);
    }
  }
  if (bfloats) multiply_bf16(run, {bfloat, bfloats});
  if (f32s) multiply_f32(run, {f32, f32s});
  if (integers) multiply_integer(run, source, {integer, integers});
}

// Whether a pass multiplies what is not the base's in bf16 too.
bool takes_pairs(const Run& run) { return run.precision == Precision::mixed && pairs_pay(); }

// "blk.3.attn_q.weight" -> "attn_q", "blk.3.ffn_up.17.weight" -> "ffn_up_exps". The embedding's table is multiplied by nowhere but as the
// head.
std::string role(std::string_view name) {
  if (name.starts_with("blk.")) name.remove_prefix(name.find('.', 4) + 1);
  if (name.ends_with(".weight")) name.remove_suffix(7);
  if (const size_t expert = name.find('.'); expert != name.npos) return std::string(name.substr(0, expert)) + "_exps";
  return std::string(name == "token_embd" ? "output" : name);
}

OpWork work_of(const Run& run, const Call& call) {
  OpWork work;
  work.bytes = 4.0 * double(call.source.x->count());
  for (const Part& part : call.parts) {
    const Linear* l = part.linear;
    const RowRange& rows = call.rows(part);
    const Panels::Kind kind = l->panels(forward_use(run.precision), run.pool).kind;
    const int as_bytes = kind == Panels::integer ? std::clamp(byte_rows(run, call.source.rows) - rows.first, 0, rows.count) : 0;
    const double each = 2.0 * l->in * l->out;  // operations of a row
    if (part.group == 0) work.name += (work.name.empty() ? "" : "+") + role(l->name);
    if (rows.count == 0) continue;
    work.int8 += as_bytes * each;
    (kind == Panels::f32 ? work.f32 : work.bf16) += (rows.count - as_bytes) * each;
    work.bytes += double(l->weight.bytes.size()) + 4.0 * (rows.count + (l->bias ? 1 : 0)) * l->out;
    if (!l->adapter) continue;
    const double factors = double(l->adapter->rank) * (l->in + l->out);
    (takes_pairs(run) ? work.bf16 : work.f32) += 2 * rows.count * factors;
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

// x, y: a part's rows. Both have their gradients.
void part_back(Run& run, Var* x, bool into_x, const Linear& one, const Var* y, const float* t) {
  if (one.soft_cap > 0) kernels().soft_cap_back(one.soft_cap, y->data, y->count(), y->grad);
  const Arena::Mark mark = run.arena.mark();
  const PairRows pairs = takes_pairs(run) ? bf16_rows(run, y->grad, y->rows, y->cols) : PairRows{};
  if (one.adapter) adapter_back(run, x, into_x, t, *one.adapter, y, pairs);
  if (one.trained && !one.trained->grad.empty()) weight_back(run, x, *one.trained, y);
  if (one.scales && !one.scales->grad.empty()) scales_back(run, x, one, y);
  if (into_x) {
    const Panels& panels = one.panels(run.precision == Precision::exact ? Linear::backward_f32 : Linear::backward_bf16, run.pool);
    pairs&& panels.kind == Panels::bfloat ? multiply_bf16(run, pairs, panels, x->grad, true)
                                          : multiply(run, y->grad, y->rows, panels, x->grad, true);
  }
  run.arena.release(mark);
}

void record(Run& run, Var* x, const RowRange& rows, const Part& part) {
  CHECK(!part.linear->adapter || part.linear->adapter->row_scale.empty(), "magnitudes have no way back");
  run.tape->push([&run, x, rows, part, into_x = x->needs_grad] {
    if (!part.y->grad) return;
    if (into_x) run.tape->grad(*x);
    Var in = view(*x, rows);
    const Var out = view(*part.y, rows);
    part_back(run, &in, into_x, *part.linear, &out, part.t);
  });
}

void forward(Run& run, Var* x, const Call& call) {
  const OpTimer timer(run.times, [&] { return work_of(run, call); });
  const Source& source = call.source;
  for (Part& part : call.parts) {
    const Linear& one = *part.linear;
    CHECK(one.in == x->cols, "a linear's input has its width");
    CHECK(!source.from || !(run.tape || run.tap || one.adapter), "rows lie in order where more than a product reads them");
    const RowRange& rows = call.rows(part);
    part.t = one.adapter ? run.arena.get<float>(size_t(rows.count) * one.adapter->rank + 16) : nullptr;
    if (run.tap) run.tap->input(one, view(*x, rows).data, rows.count);
  }
  const Arena::Mark mark = run.arena.mark();
  PairRows* pairs = run.arena.get<PairRows>(call.groups.size());
  std::fill_n(pairs, call.groups.size(), PairRows{});
  if (takes_pairs(run)) bf16_rows(run, x->data, x->cols, source.from, call.groups, {pairs, call.groups.size()});
  base_forward(run, call, {pairs, call.groups.size()}, takes_pairs(run));
  for (const Part& part : call.parts) {
    const Linear& one = *part.linear;
    const RowRange& rows = call.rows(part);
    Var y = view(*part.y, rows);
    const bool scaled = one.adapter && !one.adapter->row_scale.empty();
    if (one.bias && !scaled) add_bias(run, one.bias, y);
    const Var in = one.adapter ? view(*x, rows) : Var{};
    if (one.adapter && rows.count)
      adapter_forward(run, &in, takes_pairs(run) ? pairs[size_t(part.group)] : PairRows{}, *one.adapter, part.t, &y);
    if (scaled) scale_columns(run, one.adapter->row_scale.data(), y);
    if (one.bias && scaled) add_bias(run, one.bias, y);
    if (one.soft_cap > 0) run.pool.run(y.rows, [&](int r) { kernels().soft_cap(one.soft_cap, one.out, y.data + int64_t(r) * one.out); });
    part.y->needs_grad |= run.tape && (x->needs_grad || learns(one));
  }
  run.arena.release(mark);
  for (const Part& part : call.parts)
    if (call.rows(part).count && run.tape && (x->needs_grad || learns(*part.linear))) record(run, x, call.rows(part), part);
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
  const RowRange all{0, x->rows};
  Part* parts = run.arena.get<Part>(linears.size());
  for (size_t i = 0; i < linears.size(); i++) {
    out[i] = run.make(x->rows, linears[i]->out, false);
    parts[i] = {linears[i], 0, out[i], nullptr};
  }
  forward(run, x, {{x, nullptr, x->rows}, {&all, 1}, {parts, linears.size()}});
}

void linear(Run& run, Var* x, const int* from, std::span<const RowGroup> groups, std::span<Var*> out) {
  RowRange* ranges = run.arena.get<RowRange>(groups.size());
  Part* parts = run.arena.get<Part>(groups.size() * out.size());
  size_t n = 0;
  int rows = 0;
  for (size_t g = 0; g < groups.size(); g++) {
    ranges[g] = {rows, groups[g].rows};
    rows += groups[g].rows;
  }
  for (size_t i = 0; i < out.size(); i++) out[i] = run.make(rows, groups[0].linears[i]->out, false);
  for (size_t g = 0; g < groups.size(); g++)
    for (size_t i = 0; i < out.size(); i++) parts[n++] = {groups[g].linears[i], int(g), out[i], nullptr};
  forward(run, x, {{x, from, rows}, {ranges, groups.size()}, {parts, n}});
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
