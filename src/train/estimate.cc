// What a run will need. Time is counted products over the machine's measured rate, and what goes on beside them (measured: on one machine
// products of twice the rate saved no more than their own time); memory is counted buffers; neither builds a panel, so an estimate costs a
// fraction of a second.
#include <algorithm>
#include <cmath>

#include "op/probe.h"
#include "train/parameters.h"
#include "train/pass.h"

namespace fettle {
namespace {

constexpr double kBeside = 330e-9;    // seconds of a core for each token, layer and channel: norms, attention's softmax, adapters, sums
constexpr double kElsewhere = 300e6;  // bytes: program, tokenizer, rows, page cache in use

int64_t trained_parameters(Model& model, const TrainOptions& o) {
  int64_t n = 0;
  if (o.init_adapter) {
    for (const LoraPair& p : o.init_adapter->pairs) n += int64_t(p.rank) * (p.in + p.out);
    return n;
  }
  for (const Linear* l : chosen(model, o.targets)) {
    const Format& f = *l->weight.format;
    n += o.method == "full"     ? int64_t(l->in) * l->out
         : o.method == "scales" ? (f.scale_at < 0 ? 0 : int64_t(l->in) * l->out / f.block * (f.min_at < 0 ? 1 : 2))
                                : int64_t(o.rank) * (l->in + l->out);
  }
  return n;
}

// The way forward alone.
double teacher_products(Model& teacher, double computed, double trained, double pairs) {
  const Config& c = teacher.config;
  return computed * 2 * linear_weights(teacher) + trained * 2 * double(teacher.head.in) * teacher.head.out +
         pairs * c.layers * 4.0 * c.heads * c.head_dim;
}

}  // namespace

TrainEstimate estimate_training(Model& model, const std::vector<TokenRow>& rows, const TrainOptions& o) {
  Plan plan(rows, o, model.config.vocabulary, model.config.context);
  TrainEstimate e;
  e.steps = plan.steps();
  e.tokens = plan.tokens();
  e.trained_parameters = trained_parameters(model, o);
  const Config& c = model.config;
  const double weights = linear_weights(model);
  double largest = 1, trained = 0, seen = 0, computed = 0, pairs = 0;
  const int64_t look = std::min<int64_t>(plan.steps(), 64);
  for (int64_t i = 0; i < look; i++) {
    const Step step = plan.step(i * plan.steps() / look);
    const Batch batch = make_batch(step.pieces).batch;
    largest = std::max(largest, double(step.tokens));
    seen += double(step.tokens);
    computed += double(batch.rows());  // fewer: what rows have in common is computed once
    trained += double(step.trained);
    for (const Batch::Segment& g : batch.segments) pairs += double(g.count) * (g.start + g.count / 2.0);
  }
  // Forward and input gradient are two products each of weights, three of adapters, one more of trained weights; attention scores and
  // values twice forward, five times back.
  const double own = o.method == "lora" ? 6 * double(e.trained_parameters) : 2 * weights;
  const double head = double(model.head.in) * model.head.out;
  double per_token =
      computed / seen * (4 * weights + own) + trained / seen * 4 * head + pairs / seen * c.layers * 14.0 * c.heads * c.head_dim;
  if (o.teacher) per_token += teacher_products(*o.teacher, computed / seen, trained / seen, pairs / seen);
  Pool pool(o.threads);
  const MachineProbe probe = probe_machine(pool, 0.05);
  const double rate = 1e9 * (o.precision == Precision::exact ? probe.f32_gflops : probe.bf16_gflops);
  const int64_t part = int64_t(std::ceil(largest / o.accumulate));
  const bool rebuilt = needs_checkpoint_blocks(model, o, part);
  const double beside = kBeside * computed / seen * c.layers * c.d_model / pool.threads();
  e.seconds = double(e.tokens) * (per_token / rate + beside) * (rebuilt ? 1.4 : 1.0);
  e.memory_bytes = kElsewhere + training_panel_bytes(model, o) + double(part) * activation_bytes_per_token(model, o.rank, rebuilt) +
                   20.0 * double(e.trained_parameters);
  e.disk_bytes = 2 * 16.0 * double(e.trained_parameters) + 200.0 * double(e.steps);  // two checkpoints (values, moments, best) and the log
  e.energy_wh = e.seconds * kWattsPerCore * pool.threads() / 3600;
  return e;
}

}  // namespace fettle
