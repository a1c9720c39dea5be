// Scores of one model file on the held-out rows, the way it will be used: through the engine, batched, and its speed for one user alone.
#include <algorithm>
#include <map>

#include "pipeline/stage.h"

namespace fettle {
namespace {

constexpr int kTimedTokens = 48, kTimedRuns = 5;
constexpr size_t kMostLabels = 200;
constexpr int kAnswerTokens = 256;

// Tokens of the longest held-out conversation, and of the longest answer.
std::pair<int, int> longest(const ChatFormat& format, const std::vector<Example>& rows) {
  int whole = 0, answer = 0;
  for (const Example& row : rows) {
    whole = std::max(whole, int(format.train_row(row).ids.size()));
    answer = std::max(answer, int(format.tokenizer().encode(row.answer()).size()));
  }
  return {whole, answer};
}

// Seconds per token of one sequence decoded alone.
Interval time_decoding(Engine& engine, const Example& row) {
  const ChatFormat format = engine.model().chat_format();
  Request request;
  request.prompt = format.prompt({row.messages.begin(), row.messages.end() - 1});
  request.max_tokens = std::min(kTimedTokens, engine.options().context - int(request.prompt.size()) - 1);
  request.ignore_end = true;
  std::vector<double> seconds;
  for (int run = 0; run < kTimedRuns; run++) {
    stop_if_interrupted();
    const Answer answer = engine.generate(request);
    if (answer.ids.size() > 1) seconds.push_back((answer.seconds - answer.first_token_seconds) / double(answer.ids.size() - 1));
  }
  return seconds.empty() ? Interval{} : mean_interval(seconds);
}

std::unique_ptr<Engine> engine_for(const fs::path& gguf, const std::vector<Example>& held_out, const StageContext& context,
                                   int* answer_tokens) {
  auto model = Model::open(gguf);
  const auto [whole, answer] = longest(model->chat_format(), held_out);
  *answer_tokens = std::min(answer + 16, kAnswerTokens);
  EngineOptions options;
  options.threads = context.threads;
  options.context = std::min(std::max(whole + *answer_tokens, 128) + 8, model->config.context);
  return std::make_unique<Engine>(std::move(model), options);
}

Json interval_json(const Interval& i) { return {{"value", i.value}, {"low", i.low}, {"high", i.high}}; }
Interval interval_from(const Json& j) { return {j.at("value"), j.at("low"), j.at("high")}; }

}  // namespace

std::string why_free_answers(const std::vector<Example>& train, const std::vector<Example>& held_out) {
  std::map<std::string, int> labels, asked;
  for (const Example& e : train) labels[std::string(trim(e.answer()))]++;
  const auto many = [](size_t answers, size_t rows, const char* what) {
    return std::to_string(answers) + " different answers in " + std::to_string(rows) + " " + what + " rows";
  };
  if (labels.size() < 2) return "the training rows have one answer";
  if (labels.size() > kMostLabels || labels.size() * 3 > train.size()) return many(labels.size(), train.size(), "training");
  for (const Example& e : held_out) {
    const std::string answer(trim(e.answer()));
    if (!labels.count(answer)) return "the held-out answer \"" + harmless(answer, 40) + "\" stands in no training row";
    asked[answer]++;
  }
  // what the task `choice` accepts
  return held_out.size() >= 20 && asked.size() * 2 > held_out.size() ? many(asked.size(), held_out.size(), "held-out") : "";
}

Scored score_file(const fs::path& gguf, const std::vector<Example>& held_out, bool closed, const StageContext& context,
                  const std::string& label) {
  int answer_tokens = 0;
  auto engine = engine_for(gguf, held_out, context, &answer_tokens);
  Progress progress(label, int64_t(held_out.size()), "rows");
  EvalInput input;
  input.engine = engine.get();
  input.examples = &held_out;
  input.max_tokens = answer_tokens;
  input.progress = [&](int64_t done, int64_t) { progress.update(done); };
  Scored scored;
  scored.score = find_task(closed ? "choice" : "exact").run(input);
  if (!closed) {
    input.progress = {};
    scored.perplexity = find_task("perplexity").run(input).score;
  }
  scored.seconds_per_token = time_decoding(*engine, held_out.front());
  char note[96];
  std::snprintf(note, sizeof note, "%.1f %% right, %.2f ms/token", scored.score.score.value * 100, scored.seconds_per_token.value * 1e3);
  progress.finish(note);
  return scored;
}

Score kl_between(const fs::path& compressed, const fs::path& tuned, const std::vector<Example>& held_out, const StageContext& context,
                 const std::string& label) {
  int answer_tokens = 0;
  auto engine = engine_for(compressed, held_out, context, &answer_tokens);
  auto reference = Model::open(tuned);
  Progress progress(label, int64_t(held_out.size()), "rows");
  EvalInput input;
  input.engine = engine.get();
  input.reference = reference.get();
  input.examples = &held_out;
  input.progress = [&](int64_t done, int64_t) { progress.update(done); };
  return find_task("kl").run(input);
}

Json scored_json(const Scored& s) {
  Json rows = Json::array();
  for (const RowScore& r : s.score.row_scores)
    rows.push_back({{"id", r.id}, {"expected", r.expected}, {"answer", r.answer}, {"right", r.right}, {"log_prob", r.log_prob}});
  Json j = {{"task", s.score.task},
            {"rows", s.score.rows},
            {"tokens", s.score.tokens},
            {"score", interval_json(s.score.score)},
            {"seconds", s.score.seconds}};
  j["seconds_per_token"] = interval_json(s.seconds_per_token);
  j["perplexity"] = s.perplexity ? interval_json(*s.perplexity) : Json();
  j["row_scores"] = std::move(rows);
  return j;
}

Scored scored_from(const Json& j) {
  Scored s;
  s.score.task = j.at("task");
  s.score.rows = j.at("rows");
  s.score.tokens = j.at("tokens");
  s.score.score = interval_from(j.at("score"));
  s.score.seconds = j.at("seconds");
  s.seconds_per_token = interval_from(j.at("seconds_per_token"));
  if (!j.at("perplexity").is_null()) s.perplexity = interval_from(j.at("perplexity"));
  for (const Json& r : j.at("row_scores"))
    s.score.row_scores.push_back({r.at("id"), r.at("expected"), r.at("answer"), r.at("right"), r.at("log_prob")});
  return s;
}

}  // namespace fettle
