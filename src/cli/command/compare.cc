// compare: several models on the same rows: scores, paired tests against the first, and the rows that flipped.
#include "cli/measure.h"
#include "cli/table.h"

namespace fettle {
namespace {

struct Arguments {
  std::vector<std::string> models;
  std::string task = "exact", data;
  bool skip_bad = false;
  int64_t rows = 0;
  MeasureOptions measure;
};

// What the paired test takes of each row: right or wrong, or the log-probability.
std::vector<double> row_values(const Score& s) {
  std::vector<double> values;
  for (const RowScore& r : s.row_scores) values.push_back(s.task == "exact" || s.task == "choice" ? double(r.right) : r.log_prob);
  return values;
}

Json pair_json(const std::string& name, const Score& a, const Score& b) {
  Paired p = paired_test(row_values(a), row_values(b));
  Json flips = Json::array();
  int64_t mended = 0;
  for (const Flip& f : flipped(a, b)) {
    flips.push_back({{"id", f.id}, {"expected", f.expected}, {"before", f.before}, {"after", f.after}, {"mended", f.mended}});
    mended += f.mended;
  }
  return {{"model", name},
          {"difference", {{"value", p.difference.value}, {"low", p.difference.low}, {"high", p.difference.high}}},
          {"p_value", p.p_value},
          {"mended", mended},
          {"broken", int64_t(flips.size()) - mended},
          {"flipped", flips}};
}

Json plan_comparison(const Arguments& a, const std::string& task, const EvalData& data, const Common& common) {
  Needs needs;
  std::string text;
  for (const std::string& name : a.models) {
    const MeasurePlan plan = plan_measure(task, open_model(name, common.stage), nullptr, data, a.measure, common.stage);
    needs.then(plan.needs);
    text = plan.text + ", by each of " + std::to_string(a.models.size()) + " models";
  }
  Json document = {{"models", a.models}, {"data", a.data}};
  document.update(dry_run_document(text, {}, needs, common.stage.threads));
  return document;
}

Json compare(const Arguments& a, const Common& common) {
  if (a.models.size() < 2) throw usage("fettle compare needs at least two models");
  std::string task = find_task(a.task).name;
  if (task == "kl")
    throw usage("compare takes tasks that score one model", "`fettle eval --task kl --reference MODEL` compares distributions");
  EvalData data = read_eval_data(a.data, a.skip_bad, a.rows);
  if (common.stage.dry_run) return plan_comparison(a, task, data, common);
  std::vector<Score> scores;
  Json models = Json::array(), pairs = Json::array();
  for (const std::string& name : a.models) {  // one at a time: two models need not fit into memory together
    auto model = open_model(name, common.stage);
    Json row = {{"model", name}, {"bytes", model->file->file_bytes()}};
    scores.push_back(measure(task, model, nullptr, data, a.measure, common.stage));
    row.update(score_json(scores.back()));
    models.push_back(row);
    if (scores.size() > 1 && !scores[0].row_scores.empty()) pairs.push_back(pair_json(name, scores[0], scores.back()));
  }
  return {{"task", task}, {"data", a.data}, {"models", models}, {"reference", a.models[0]}, {"pairs", pairs}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("MODEL", a->models, "two or more models; the first is what the others are set against").require();
  o.add("--data", a->data, "examples to answer").require().called("DATA");
  o.add("--task", a->task, "exact, choice or perplexity").called("TASK");
  o.add("--rows", a->rows, "first rows of the data only; 0: all");
  o.flag("--skip-bad", a->skip_bad, "leave out rows that cannot be used");
  add_measure(o, a->measure);
  common.add_long(o, false);
  return [a, &common] { return compare(*a, common); };
}

void print_flips(const Json& pair) {
  constexpr size_t kShown = 10;
  Table table({"row>", "expected", "before", "after", ""});
  size_t shown = 0;
  for (const Json& f : pair["flipped"])
    if (shown++ < kShown)
      table.row({std::to_string(f["id"].get<int64_t>() + 1), one_line(f["expected"], 28), one_line(f["before"], 28),
                 one_line(f["after"], 28), f["mended"] ? "mended" : "broken"});
  table.print();
  if (pair["flipped"].size() > kShown) std::printf("… and %zu more; --json lists all\n", pair["flipped"].size() - kShown);
}

void print(const Json& d) {
  bool shares = d["task"] != "perplexity";
  Table table({"model", "size>", "score (95 % interval)", "difference", "p>", "mended>", "broken>"});
  for (size_t i = 0; i < d["models"].size(); i++) {
    const Json& m = d["models"][i];
    std::vector<std::string> cells{m["model"], format_bytes(m["bytes"]), score_text(m)};
    if (i > 0 && i <= d["pairs"].size()) {
      const Json &p = d["pairs"][i - 1], &x = p["difference"];
      double scale = shares ? 100 : 1;
      cells.push_back(number("%+.2f", scale * x["value"].get<double>()) + " (" + number("%+.2f", scale * x["low"].get<double>()) + " to " +
                      number("%+.2f", scale * x["high"].get<double>()) + ")" + (shares ? " pt" : " log-probability a row"));
      cells.push_back(number("%.3g", p["p_value"]));
      cells.push_back(p["mended"].dump());
      cells.push_back(p["broken"].dump());
    }
    table.row(cells);
  }
  table.print();
  for (const Json& pair : d["pairs"]) {
    if (pair["flipped"].empty()) continue;
    std::printf("\nrows that flipped, %s:\n", pair["model"].get<std::string>().c_str());
    print_flips(pair);
  }
}

}  // namespace

const Command command_compare = {"compare",
                                 "Measure",
                                 "models on the same rows: paired tests, flipped rows",
                                 "fettle compare tickets:1 tickets:2 --data heldout.jsonl\n"
                                 "fettle compare base.gguf tuned.gguf small.gguf --task choice --data heldout.jsonl",
                                 setup,
                                 print};

}  // namespace fettle
