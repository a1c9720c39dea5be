// fit: the main job, the whole chain to a target. The chain is pipeline's; here are its options and its table.
#include "cli/model_use.h"
#include "cli/table.h"
#include "cli/training_flags.h"

namespace fettle {
namespace {

Json fit_model(FitArguments a, const Common& common) {
  check_training(a.options);
  parse_rules(a.target);  // a slip in the target shall show before an hour's work
  a.out = common.out;
  a.options.seed = common.stage.seed;
  a.options.threads = common.stage.threads;
  a.options.memory_bytes = common.stage.memory_bytes;
  a.options.resume = common.stage.resume;
  Json document = fit(a, common.stage);
  if (!common.stage.dry_run && !document.contains("next") && document.value("passed", false) && document.contains("name"))
    document["next"] = {"fettle serve " + document["name"].get<std::string>(), "fettle chat " + document["name"].get<std::string>()};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<FitArguments>();
  o.add("DATA", a->data, "a file or folder of examples; data.csv:text=message,label=intent names columns").require();
  o.add("--base", a->base, "the model to begin with").called("MODEL");
  o.add("--target", a->target, "rules the result must meet, with commas: also latency<5ms/token, kl<0.02").called("RULES");
  add_held_out(o, a->held_out);
  o.add("--name", a->name, "name in the registry (default: the data's)");
  o.seconds("--time", a->seconds, "time to stay within");
  o.flag("--skip-bad", a->skip_bad, "leave out rows that cannot be used");
  add_training(o, a->options, false);
  common.add_output(o, "run folder (default: a new one under the home's runs/)");
  common.add_long(o, true);
  return [a, &common] { return fit_model(*a, common); };
}

void print_table(const Json& rows) {
  Table table({"model", "size>", "score>", "95 % interval", "ms/token>"});
  for (const Json& r : rows)
    table.row({r.value("model", ""), format_bytes(r.value("bytes", 0.0)), percent(r.value("score", 0.0)),
               percent(r.value("low", 0.0)) + " to " + percent(r.value("high", 0.0)), number("%.2f", r.value("ms_per_token", 0.0))});
  table.print();
}

void print_gate(const Json& d) {
  Table table({"rule", "verdict", "why"});
  const Json& gates = d.contains("gates") ? d["gates"] : Json::array({d["gate"]});
  for (const Json& g : gates)
    if (g.is_object())
      table.row({g.value("rule", ""), g.value("passed", false) ? "passed" : g.value("verdict", "not passed"), g.value("explanation", "")});
  table.print();
}

void print(const Json& d) {
  print_table(d["table"]);
  if (d.contains("gate")) {
    std::puts("");
    print_gate(d);
  }
  if (d.contains("flipped") && d["flipped"].is_array()) std::printf("\nrows that flipped: %zu\n", d["flipped"].size());
  if (d.contains("report") && d["report"].is_string()) std::printf("report: %s\n", d["report"].get<std::string>().c_str());
  std::printf("%s: %s\n", d.value("name", "").c_str(),
              d.value("passed", false) ? "passed the gate, registered as ready" : "did not pass the gate");
}

}  // namespace

const Command command_fit = {"fit",
                             "The main job",
                             "from examples to a tuned, compressed, measured, gated model",
                             "fettle fit tickets.jsonl\n"
                             "fettle fit tickets.csv:text=message,label=intent --target \"size<90MB,accuracy>=base_tuned-1pt\"\n"
                             "fettle fit tickets.jsonl --base mine.gguf --target \"latency<5ms/token,kl<0.02\"\n"
                             "fettle fit tickets.jsonl --held-out heldout.jsonl --name tickets --time 30min\n"
                             "fettle fit tickets.jsonl --dry-run",
                             setup,
                             print};

}  // namespace fettle
