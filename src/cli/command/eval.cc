// eval: scores of one model, with intervals.
#include "cli/measure.h"
#include "cli/table.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, task = "exact", data, reference;
  fs::path rows_out;
  bool skip_bad = false;
  int64_t rows = 0;
  MeasureOptions measure;
};

void write_rows(const fs::path& path, const std::vector<Score>& scores) {
  AtomicFile file(path);
  for (const Score& s : scores)
    for (const RowScore& r : s.row_scores) {
      Json line = {{"id", r.id}, {"expected", r.expected}, {"answer", r.answer}, {"right", r.right}, {"log_prob", r.log_prob}};
      if (scores.size() > 1) line["task"] = s.task;
      file.write(line.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
    }
  file.commit();
}

std::vector<std::string> tasks_of(const Arguments& a) {
  std::vector<std::string> names;
  for (const std::string& name : split(a.task, ',')) names.push_back(find_task(std::string(trim(name))).name);
  bool kl = std::find(names.begin(), names.end(), "kl") != names.end();
  if (kl && a.reference.empty()) throw usage("the task kl needs --reference MODEL", "the model that this one was made from");
  return names;
}

// Every task with all that it would refuse; nothing is computed.
Json plan_tasks(const Arguments& a, const std::vector<std::string>& names, const std::shared_ptr<Model>& model, Model* reference,
                const EvalData& data, const Common& common) {
  constexpr double kRowBytes = 300;  // of --rows-out
  Needs needs;
  std::string text;
  for (const std::string& name : names) {
    MeasurePlan plan = plan_measure(name, model, reference, data, a.measure, common.stage);
    if (!a.rows_out.empty()) plan.needs.disk_bytes = kRowBytes * double(plan.work.rows);
    needs.then(plan.needs);
    text += (text.empty() ? "" : "; ") + plan.text;
  }
  std::vector<fs::path> writes;
  if (!a.rows_out.empty()) writes.push_back(a.rows_out);
  Json document = {{"model", a.model}, {"data", a.data}};
  document.update(dry_run_document(text, writes, needs, common.stage.threads));
  return document;
}

Json evaluate(const Arguments& a, const Common& common) {
  std::vector<std::string> names = tasks_of(a);
  if (!a.rows_out.empty()) {
    std::error_code ignored;
    check_output(a.rows_out, common.stage.force);
    if (fs::equivalent(a.rows_out, a.data, ignored)) throw usage("--rows-out names the data itself");
  }
  EvalData data = read_eval_data(a.data, a.skip_bad, a.rows);
  auto model = open_model(a.model, common.stage);
  std::shared_ptr<Model> reference = a.reference.empty() ? nullptr : open_model(a.reference, common.stage);
  if (common.stage.dry_run) return plan_tasks(a, names, model, reference.get(), data, common);
  std::vector<Score> scores;
  Json all = Json::array();
  for (const std::string& name : names) {
    scores.push_back(measure(name, model, reference.get(), data, a.measure, common.stage));
    all.push_back(score_json(scores.back()));
  }
  if (!a.rows_out.empty()) write_rows(a.rows_out, scores);
  Json document = {{"model", a.model}, {"data", a.data}};
  document.update(all[0]);
  if (all.size() > 1) document["scores"] = all;
  if (!a.rows_out.empty()) document["rows_out"] = a.rows_out;
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("--task", a->task, "exact, choice, perplexity, kl; several with commas").called("TASKS");
  o.add("--data", a->data, "examples to answer, or plain text (perplexity, kl)").require().called("DATA");
  o.add("--reference", a->reference, "the model to compare distributions with (kl)").called("MODEL");
  o.add("--rows", a->rows, "first rows of the data only; 0: all");
  o.add("--rows-out", a->rows_out, "write one JSON line for each row").called("FILE");
  o.flag("--skip-bad", a->skip_bad, "leave out rows that cannot be used");
  o.flag("-f,--force", common.stage.force, "replace an output that exists");
  add_measure(o, a->measure);
  common.add_long(o, false);
  return [a, &common] { return evaluate(*a, common); };
}

void print(const Json& d) {
  Table table({"task", "rows>", "tokens>", "score (95 % interval)"});
  for (const Json& s : d.contains("scores") ? d["scores"] : Json::array({d}))
    table.row({s["task"], s["rows"].dump(), format_count(s["tokens"]), score_text(s)});
  table.print();
  for (const Json& s : d.contains("scores") ? d["scores"] : Json::array({d}))
    if (s["task"] == "kl")
      std::printf("same first choice %s, 99th percentile %.4f, perplexity %.3f (reference %.3f)\n", percent(s["same_top1"]).c_str(),
                  s["kl_p99"].get<double>(), s["perplexity"].get<double>(), s["reference_perplexity"].get<double>());
}

}  // namespace

const Command command_eval = {"eval",
                              "Measure",
                              "scores of a model, with intervals",
                              "fettle eval tickets --data heldout.jsonl\n"
                              "fettle eval tickets --task choice --data heldout.jsonl --rows-out rows.jsonl\n"
                              "fettle eval small.gguf --task kl,perplexity --reference big.gguf --data text.txt --chunks 24",
                              setup,
                              print};

}  // namespace fettle
