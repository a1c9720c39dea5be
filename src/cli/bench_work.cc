// Timing follows what llama.cpp's own benchmark measures, so that a comparison is one of like with like: whole prompts in the engine's
// pieces, then one token after another, the logits of every decoded token computed, nothing sampled. Limits: a pass can be no faster than
// its products at the measured arithmetic rate, and no faster than the bytes of weights and cached keys and values that it must read.
#include "cli/bench_work.h"

#include <algorithm>
#include <charconv>
#include <tuple>

#include "cli/limits.h"
#include "engine/engine.h"
#include "format/format.h"

namespace fettle {
namespace {

// Token ids that a text could have, no two rows alike; what they are changes no work.
int token(const Model& model, int position, int sequence) {
  return (position * 7 + sequence) % std::min(1000, model.config.vocabulary - 10) + 10;
}

void append(Batch& batch, const Model& model, int sequence, int start, int count, bool want_last) {
  std::vector<int> ids;
  for (int i = 0; i < count; i++) ids.push_back(token(model, start + i, sequence));
  batch.add(sequence, start, ids, want_last);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return (values[(values.size() - 1) / 2] + values[values.size() / 2]) / 2;
}

}  // namespace

void parse_each(const std::string& text, BenchPlan& plan) {
  const char *at = text.data(), *end = at + text.size();
  auto first = std::from_chars(at, end, plan.prompt);
  bool good = first.ec == std::errc() && first.ptr != end && *first.ptr == '+';
  if (good) {
    auto second = std::from_chars(first.ptr + 1, end, plan.fresh);
    good = second.ec == std::errc() && second.ptr == end && plan.prompt > 0 && plan.fresh > 0;
  }
  if (!good) throw usage("--each: '" + text + "' is not prompt+new tokens", "write 128+64");
}

void check_cache(const PassCost& cost, const BenchPlan& plan) {
  if (const double bytes = cost.kv_bytes * double(cached_tokens(plan)); bytes > double(machine_memory()) / 2)
    throw refused("--sequences",
                  "keys and values of so many tokens take " + format_bytes(bytes) + ", more than half of this machine's memory",
                  "fewer, or a shorter --each");
}

BenchRig::BenchRig(std::shared_ptr<Model> model, const BenchPlan& plan, int threads)
    : model_(std::move(model)), plan_(plan), pool_(threads) {
  check_cache(pass_cost(*model_, plan.kv), plan);
  cache_ = std::make_unique<KvCache>(model_->kv_shape(), plan.kv, std::max(1, plan.sequences), cached_tokens(plan));
}

void BenchRig::feed(const Batch& batch, OpTimes* ops) {
  stop_if_interrupted();
  Run run{arena_, pool_, cache_.get(), nullptr, nullptr, Precision::serving};
  run.times = ops;
  model_->logits(run, batch);
  arena_.reset();
}

void BenchRig::warm_up() {
  cache_->clear_all();
  CHECK(cache_->reserve(0, 33));
  Batch batch;
  append(batch, *model_, 0, 0, 32, true);
  feed(batch);
  batch.clear();
  append(batch, *model_, 0, 32, 1, true);
  batch.generated = 1;
  feed(batch);
}

double BenchRig::time_prefill(OpTimes* ops) {
  cache_->clear_all();
  double start = now_seconds();
  CHECK(cache_->reserve(0, plan_.prefill));
  const int piece = usual_chunk(model_->config);
  for (int at = 0; at < plan_.prefill; at += piece) {
    Batch batch;
    int count = std::min(piece, plan_.prefill - at);
    append(batch, *model_, 0, at, count, at + count == plan_.prefill);
    feed(batch, ops);
  }
  return now_seconds() - start;
}

double BenchRig::time_decode(OpTimes* ops) {
  cache_->clear_all();
  CHECK(cache_->reserve(0, plan_.decode + 1));
  Batch batch;
  append(batch, *model_, 0, 0, 1, true);
  feed(batch);
  double start = now_seconds();
  for (int i = 0; i < plan_.decode; i++) {
    batch.clear();
    append(batch, *model_, 0, i + 1, 1, true);
    batch.generated = 1;
    feed(batch, ops);
  }
  return now_seconds() - start;
}

void BenchRig::time_batch(BenchTimes& times, OpTimes* ops) {
  cache_->clear_all();
  double start = now_seconds();
  for (int s = 0; s < plan_.sequences; s++) CHECK(cache_->reserve(s, plan_.prompt + plan_.fresh));
  const int piece = usual_chunk(model_->config);
  Batch batch;
  for (int s = 0; s < plan_.sequences; s++)
    for (int at = 0; at < plan_.prompt;) {
      int count = std::min(plan_.prompt - at, piece - batch.rows());
      append(batch, *model_, s, at, count, at + count == plan_.prompt);
      at += count;
      if (batch.rows() == piece || (s + 1 == plan_.sequences && at == plan_.prompt)) {
        feed(batch);
        batch.clear();
      }
    }
  double middle = now_seconds();
  for (int i = 0; i < plan_.fresh; i++) {
    batch.clear();
    for (int s = 0; s < plan_.sequences; s++) append(batch, *model_, s, plan_.prompt + i, 1, true);
    batch.generated = batch.rows();
    feed(batch, ops);
  }
  times.batch_prompts = middle - start;
  times.batch = now_seconds() - middle;
}

BenchTimes BenchRig::turn(BenchOps* ops) {
  BenchTimes times;
  if (plan_.prefill > 0) times.prefill = time_prefill(ops ? &ops->prefill : nullptr);
  if (plan_.decode > 0) times.decode = time_decode(ops ? &ops->decode : nullptr);
  if (plan_.sequences > 0) time_batch(times, ops ? &ops->batch : nullptr);
  return times;
}

namespace {

Json row(const char* work, int tokens, int sequences, double context, const std::vector<double>& runs, double limit) {
  double rate = median(runs);
  return {{"work", work},         {"tokens", tokens}, {"sequences", sequences}, {"context", context},
          {"tokens_per_s", rate}, {"runs", runs},     {"limit", limit},         {"share", rate / limit}};
}

}  // namespace

Json bench_rows(const Model& model, const BenchPlan& p, const std::vector<BenchTimes>& turns, const MachineProbe& machine) {
  const PassCost cost = pass_cost(model, p.kv);
  auto rates = [&](double tokens, auto seconds) {
    std::vector<double> out;
    for (const BenchTimes& t : turns) out.push_back(tokens / seconds(t));
    return out;
  };
  Json rows = Json::array();
  if (p.prefill > 0)
    rows.push_back(row("prefill", p.prefill, 1, p.prefill, rates(p.prefill, [](const BenchTimes& t) { return t.prefill; }),
                       p.prefill / cost.least_seconds(machine, p.prefill, 1, p.prefill / 2.0, false)));
  if (p.decode > 0)
    rows.push_back(row("decode", p.decode, 1, p.decode / 2.0, rates(p.decode, [](const BenchTimes& t) { return t.decode; }),
                       1 / cost.least_seconds(machine, 1, 1, p.decode / 2.0, true)));
  if (p.sequences > 0) {
    int tokens = p.sequences * p.fresh;
    double context = p.prompt + p.fresh / 2.0, step = cost.least_seconds(machine, p.sequences, p.sequences, context, true);
    double prompts = cost.least_seconds(machine, double(p.sequences) * p.prompt, p.sequences, p.prompt / 2.0, false);
    rows.push_back(
        row("batch", tokens, p.sequences, context, rates(tokens, [](const BenchTimes& t) { return t.batch; }), p.sequences / step));
    rows.push_back(row("batch_whole", tokens, p.sequences, context,
                       rates(tokens, [](const BenchTimes& t) { return t.batch + t.batch_prompts; }), tokens / (p.fresh * step + prompts)));
  }
  return rows;
}

namespace {

void add_op_rows(Json& rows, const char* work, const OpTimes& ops, double whole, const MachineProbe& machine) {
  for (const OpTime& t : ops.all()) {
    const double seconds = std::max(t.seconds, 1e-9);
    double operations = 0, least = 0;  // least seconds for them
    std::string arithmetic;
    for (const auto& [name, count, kind] : {std::tuple{"int8", t.work.int8, Arithmetic::int8},
                                            {"bf16", t.work.bf16, Arithmetic::bf16},
                                            {"f32", t.work.f32, Arithmetic::f32}}) {
      if (count == 0) continue;
      operations += count;
      least += count / (machine.gops(kind) * 1e9);
      arithmetic += (arithmetic.empty() ? "" : "+") + std::string(name);
    }
    const double gbps = t.work.bytes / seconds / 1e9;
    rows.push_back({{"work", work},
                    {"op", t.work.name},
                    {"calls", t.calls},
                    {"seconds", t.seconds},
                    {"share", t.seconds / whole},
                    {"arithmetic", arithmetic},
                    {"gops", operations / seconds / 1e9},
                    {"gops_share", least / seconds},
                    {"gbps", gbps},
                    {"gbps_share", gbps / machine.read_gbps}});
  }
}

}  // namespace

Json bench_op_rows(const BenchPlan& p, const BenchTimes& turn, const BenchOps& ops, const MachineProbe& machine) {
  Json rows = Json::array();
  if (p.prefill > 0) add_op_rows(rows, "prefill", ops.prefill, turn.prefill, machine);
  if (p.decode > 0) add_op_rows(rows, "decode", ops.decode, turn.decode, machine);
  if (p.sequences > 0) add_op_rows(rows, "batch", ops.batch, turn.batch, machine);
  return rows;
}

double least_turn_seconds(const PassCost& cost, const BenchPlan& p, const MachineProbe& machine) {
  double seconds = 0;
  if (p.prefill > 0) seconds += cost.least_seconds(machine, p.prefill, 1, p.prefill / 2.0, false);
  seconds += p.decode * cost.least_seconds(machine, 1, 1, p.decode / 2.0, true);
  if (p.sequences > 0)
    seconds += cost.least_seconds(machine, double(p.sequences) * p.prompt, p.sequences, p.prompt / 2.0, false) +
               p.fresh * cost.least_seconds(machine, p.sequences, p.sequences, p.prompt + p.fresh / 2.0, true);
  return seconds;
}

int64_t cached_tokens(const BenchPlan& p) {
  const int64_t one = std::max({p.prefill, p.decode + 64, 64}) + 64 + KvCache::kPage;
  const int64_t many = p.sequences * int64_t((p.prompt + p.fresh + KvCache::kPage) / KvCache::kPage) * KvCache::kPage;
  return std::max(one, many);
}

}  // namespace fettle
