#include "pipeline/fit_document.h"

#include <algorithm>

namespace fettle {
namespace {

constexpr size_t kFlippedShown = 40, kClassesShown = 8, kTextShown = 240;

// The question of a held-out row, short enough to read.
std::string question(const Example& example) {
  std::string text;
  for (const Message& m : example.messages)
    if (m.role == "user") text = m.content;
  if (text.size() > kTextShown) {
    size_t end = kTextShown;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80) end--;
    text = text.substr(0, end) + "...";
  }
  return text;
}

Json verdict_json(const GateResult& r) {
  return {{"rule", r.rule.text}, {"value", r.value},   {"low", r.low},         {"high", r.high},
          {"limit", r.limit},    {"passed", r.passed}, {"verdict", r.verdict}, {"explanation", r.explanation}};
}

}  // namespace

void add_scores(Json& document, std::span<const MeasuredModel> models) {
  Json table = Json::array();
  for (const MeasuredModel& m : models) {
    const Scored& s = *m.scored;
    table.push_back({{"model", m.name},
                     {"bytes", fs::file_size(m.file)},
                     {"score", s.score.score.value},
                     {"low", s.score.score.low},
                     {"high", s.score.score.high},
                     {"ms_per_token", s.seconds_per_token.value * 1e3},
                     {"perplexity", s.perplexity ? Json(s.perplexity->value) : Json()}});
  }
  document["task"] = models.front().scored->score.task;
  document["rows"] = models.front().scored->score.rows;
  document["table"] = std::move(table);
}

void add_flips(Json& document, const Score& before, const Score& after, const std::vector<Example>& held_out) {
  Json flips = Json::array();
  const std::vector<Flip> all = flipped(before, after);
  for (const Flip& f : all)
    if (flips.size() < kFlippedShown)
      flips.push_back({{"id", f.id},
                       {"text", question(held_out.at(size_t(f.id)))},
                       {"expected", f.expected},
                       {"before", f.before},
                       {"after", f.after},
                       {"mended", f.mended}});
  document["flipped"] = std::move(flips);
  document["flipped_total"] = all.size();
}

Json confusion_of(const Score& score) {
  std::map<std::string, int> mistakes;
  for (const RowScore& r : score.row_scores)
    if (!r.right) mistakes[r.expected]++, mistakes[r.answer]++;
  std::vector<std::string> classes;
  for (const auto& [name, n] : mistakes) classes.push_back(name);
  std::stable_sort(classes.begin(), classes.end(), [&](const std::string& a, const std::string& b) { return mistakes[a] > mistakes[b]; });
  if (classes.size() > kClassesShown) classes.resize(kClassesShown);
  std::sort(classes.begin(), classes.end());
  std::map<std::pair<std::string, std::string>, int> counts;
  for (const RowScore& r : score.row_scores) counts[{r.expected, r.answer}]++;
  Json matrix = Json::array();
  for (const std::string& expected : classes) {
    Json row = Json::array();
    for (const std::string& answer : classes) row.push_back(counts[{expected, answer}]);
    matrix.push_back(std::move(row));
  }
  return {{"classes", classes}, {"counts", matrix}};
}

void add_verdicts(Json& document, const std::vector<GateResult>& results) {
  Json all = Json::array();
  const GateResult* decisive = nullptr;
  bool passed = true;
  for (const GateResult& r : results) {
    all.push_back(verdict_json(r));
    say(std::string(r.passed ? "pass  " : "FAIL  ") + r.rule.text + ": " + (r.passed ? "" : r.verdict + ": ") + r.explanation);
    if (!decisive || (passed && !r.passed) || (passed && r.rule.metric == "accuracy" && decisive->rule.metric != "accuracy")) decisive = &r;
    passed = passed && r.passed;
  }
  document["gate"] = decisive ? verdict_json(*decisive) : Json();
  document["gates"] = std::move(all);
  document["passed"] = passed;
}

Json loss_curve(const fs::path& metrics) {
  Json steps = Json::array();
  const std::string text = read_text(metrics);
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = rest.find('\n');
    const Json row = Json::parse(rest.substr(0, end), nullptr, false);
    rest = end == std::string_view::npos ? std::string_view() : rest.substr(end + 1);
    if (row.is_object() && row.contains("step") && row.contains("loss"))
      steps.push_back({{"step", row["step"]}, {"loss", row["loss"]}, {"eval_loss", row.value("eval_loss", Json())}});
  }
  return steps;
}

}  // namespace fettle
