#include "cli/measure.h"

#include "cli/table.h"

namespace fettle {

void add_measure(Options& o, MeasureOptions& m) {
  o.add("--max-tokens", m.max_tokens, "most tokens of an answer (exact)");
  o.add("--chunk-tokens", m.chunk_tokens, "plain text is cut into chunks of this many tokens; the second half of each is scored");
  o.add("--chunks", m.max_chunks, "most chunks of plain text; 0: all");
  o.add("--parallel", m.parallel, "rows computed together");
  add_activations(o, m.activations);
}

Score measure(const std::string& task, const std::shared_ptr<Model>& model, Model* reference, const EvalData& data, const MeasureOptions& m,
              const StageContext& context) {
  EngineOptions options;
  options.parallel = m.parallel;
  options.context = m.context;
  options.precision = activation_precision(m.activations);
  std::unique_ptr<Engine> engine = make_engine(model, options, context);
  Progress progress(task, data.plain ? 0 : int64_t(data.data.examples.size()), data.plain ? "chunks" : "rows");
  EvalInput input;
  input.engine = engine.get();
  input.reference = reference;
  if (data.plain)
    input.text = data.text;
  else
    input.examples = &data.data.examples;
  input.chunk_tokens = m.chunk_tokens;
  input.max_chunks = m.max_chunks;
  input.max_tokens = m.max_tokens;
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
