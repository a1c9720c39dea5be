// tune: one training run: a run folder with adapter, log, checkpoints and recipe. The work is pipeline's tune_stage.
#include "cli/model_use.h"
#include "cli/table.h"
#include "cli/training_flags.h"

namespace fettle {
namespace {

Json tune(TuneArguments a, const Common& common) {
  check_training(a.options);
  if (a.data.empty() == a.ids_file.empty()) throw usage("fettle tune needs DATA, or --ids with ready token rows");
  a.out = common.out;
  a.options.seed = common.stage.seed;
  a.options.threads = common.stage.threads;
  a.options.memory_bytes = common.stage.memory_bytes;
  a.options.resume = common.stage.resume;
  Json document = tune_stage(a, common.stage);
  if (!document.contains("next") && document.contains("adapter") && document["adapter"].is_string())
    document["next"] = {"fettle merge " + a.model + " " + document["adapter"].get<std::string>()};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<TuneArguments>();
  add_model(o, a->model);
  o.add("DATA", a->data, "a file or folder of examples; data.csv:text=message,label=intent names columns");
  add_held_out(o, a->held_out);
  o.add("--ids", a->ids_file, "ready token rows in place of DATA: JSONL {\"ids\": […], \"labels\": […]}, -100: no loss").called("FILE");
  o.add("--init-adapter", a->init_adapter, "start from this adapter: a PEFT folder or a GGUF adapter");
  o.add("--teacher", a->teacher, "learn this model's distributions in place of the labels").called("MODEL");
  o.flag("--skip-bad", a->skip_bad, "leave out rows that cannot be used");
  add_training(o, a->options, true);
  common.add_output(o, "run folder (default: a new one under the home's runs/)");
  common.add_long(o, true);
  return [a, &common] { return tune(*a, common); };
}

void print(const Json& d) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const char* key : {"run", "adapter"})
    if (d.contains(key) && d[key].is_string()) lines.emplace_back(key, d[key].get<std::string>());
  lines.emplace_back("steps", d["steps"].dump() + " (" + d.value("stopped_because", std::string("done")) + ")");
  lines.emplace_back(
      "loss",
      number("%.4f", d["first_loss"]) + " -> " + number("%.4f", d["last_loss"]) +
          (d.contains("best_eval_loss") && d["best_eval_loss"].is_number() ? ", held out " + number("%.4f", d["best_eval_loss"]) : ""));
  lines.emplace_back("tokens", format_count(d["tokens"]) + ", trained parameters " + format_count(d["trained_parameters"]));
  std::fputs(pairs_text(lines).c_str(), stdout);
}

}  // namespace

const Command command_tune = {"tune",
                              "Train",
                              "train a model on examples: one run folder",
                              "fettle tune smollm2-135m-instruct tickets.jsonl --out runs/tickets\n"
                              "fettle tune smollm2-135m-instruct tickets.jsonl --rank 32 --lr 1e-4 --epochs 3 --patience 3\n"
                              "fettle tune smollm2-135m-instruct tickets.jsonl --out runs/tickets --resume",
                              setup,
                              print};

}  // namespace fettle
