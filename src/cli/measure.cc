#include "cli/measure.h"

#include <algorithm>

#include "cli/limits.h"
#include "cli/table.h"

namespace fettle {

void add_measure(Options& o, MeasureOptions& m) {
  o.add("--max-tokens", m.max_tokens, "most tokens of an answer (exact)");
  o.add("--chunk-tokens", m.chunk_tokens, "plain text is cut into chunks of this many tokens; the second half of each is scored");
  o.add("--chunks", m.max_chunks, "most chunks of plain text; 0: all");
  o.add("--parallel", m.parallel, "rows computed together");
  add_activations(o, m.activations);
  add_kv(o, m.kv);
}

namespace {

std::unique_ptr<Engine> measuring_engine(const std::shared_ptr<Model>& model, const MeasureOptions& m, const StageContext& context) {
  if (m.parallel < 1) throw usage("--parallel: at least 1");
  if (m.max_tokens < 1) throw usage("--max-tokens: at least 1");
  EngineOptions options;
  options.parallel = m.parallel;
  options.context = m.context;
  options.precision = activation_precision(m.activations);
  options.kv = m.kv;
  return make_engine(model, options, context);
}

EvalInput input_of(Engine& engine, Model* reference, const EvalData& data, const MeasureOptions& m) {
  EvalInput input;
  input.engine = &engine;
  input.reference = reference;
  if (data.plain)
    input.text = data.text;
  else
    input.examples = &data.data.examples;
  input.chunk_tokens = m.chunk_tokens;
  input.max_chunks = m.max_chunks;
  input.max_tokens = m.max_tokens;
  return input;
}

Needs needs_of(const EvalWork& w, const Engine& engine, const Model& model, const Model* reference, const MeasureOptions& m,
               const StageContext& context) {
  constexpr double kProgramBytes = 100e6;  // tokenizer, rows, what a pass computes with
  Pool pool(context.threads);
  const MachineProbe machine = probe_machine(pool, 0.05);
  const PassCost cost = pass_cost(model, engine.options().kv_element());
  const double rows = double(std::max<int64_t>(1, w.rows)), together = std::min(rows, double(m.parallel));
  const double length = double(w.read_tokens + w.answer_tokens) / rows, read = double(w.read_tokens), scored = double(w.scored_tokens);
  const bool exact = activation_precision(m.activations) == Precision::exact;
  Needs needs;
  needs.seconds = (exact ? cost.least_f32_seconds(machine, read + double(w.answer_tokens), scored + double(w.answer_tokens), length / 2)
                         : cost.least_seconds(machine, read, scored, length / 2, false) +
                               double(w.answer_tokens) / together * cost.least_seconds(machine, together, together, length, true)) /
                  kUsualShare;
  needs.memory_bytes = kProgramBytes + 2 * double(model.file->file_bytes()) + together * length * cost.kv_bytes;
  if (w.reference && reference) {
    needs.seconds += pass_cost(*reference, find_format("F32")).least_f32_seconds(machine, read, scored, length / 2) / kUsualShare;
    needs.memory_bytes += double(reference->file->file_bytes()) + 4.0 * double(reference->parameters());
  }
  return needs;
}

}  // namespace

MeasurePlan plan_measure(const std::string& task, const std::shared_ptr<Model>& model, Model* reference, const EvalData& data,
                         const MeasureOptions& m, const StageContext& context) {
  const std::unique_ptr<Engine> engine = measuring_engine(model, m, context);
  const EvalWork work = find_task(task).plan(input_of(*engine, reference, data, m));
  std::string text = task + ": " + std::to_string(work.rows) + (data.plain ? " chunks, " : " rows, ") +
                     format_count(double(work.read_tokens)) + " tokens read";
  if (work.answer_tokens > 0) text += ", at most " + format_count(double(work.answer_tokens)) + " written";
  return {work, needs_of(work, *engine, *model, reference, m, context), text};
}

Score measure(const std::string& task, const std::shared_ptr<Model>& model, Model* reference, const EvalData& data, const MeasureOptions& m,
              const StageContext& context) {
  const std::unique_ptr<Engine> engine = measuring_engine(model, m, context);
  Progress progress(task, data.plain ? 0 : int64_t(data.data.examples.size()), data.plain ? "chunks" : "rows");
  EvalInput input = input_of(*engine, reference, data, m);
  input.progress = [&](int64_t done, int64_t) { progress.update(done); };
  Score score = find_task(task).run(input);
  stop_if_interrupted();
  progress.finish(score_text(score_json(score)));
  return score;
}

Json score_json(const Score& s) {
  Json document = {{"task", s.task},
                   {"rows", s.rows},
                   {"tokens", s.tokens},
                   {"score", {{"value", s.score.value}, {"low", s.score.low}, {"high", s.score.high}}},
                   {"task_seconds", s.seconds}};
  if (s.task == "kl") {
    document["kl_mean"] = s.kl_mean;
    document["kl_stderr"] = s.kl_stderr;
    document["kl_p99"] = s.kl_p99;
    document["same_top1"] = s.same_top1;
    document["perplexity"] = s.perplexity;
    document["reference_perplexity"] = s.reference_perplexity;
  }
  return document;
}

std::string score_text(const Json& d) {
  const Json& s = d["score"];
  std::string task = d["task"];
  if (task == "exact" || task == "choice")
    return percent(s["value"]) + " (" + number("%.1f", 100 * s["low"].get<double>()) + " to " +
           number("%.1f", 100 * s["high"].get<double>()) + ")";
  const char* format = task == "kl" ? "%.5f" : "%.3f";
  return number(format, s["value"]) + " (" + number(format, s["low"]) + " to " + number(format, s["high"]) + ")";
}

}  // namespace fettle
