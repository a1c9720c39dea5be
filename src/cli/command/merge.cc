// merge: a model and an adapter become one model file.
#include "cli/quantizing.h"
#include "cli/table.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, adapter, type = "F16";
};

// The recipe of the run that made the adapter, which lies beside it; null: there is none.
Json training_of(const std::string& adapter) {
  std::error_code ignored;
  const fs::path recipe = (fs::absolute(adapter, ignored) / "").lexically_normal().parent_path().parent_path() / "recipe.json";
  if (!fs::is_regular_file(recipe, ignored)) return nullptr;
  Json made = Json::parse(read_text(recipe), nullptr, false);
  return made.is_object() ? made : Json();
}

// The run's recipe says which model it was trained on.
void warn_of_other_base(const Arguments& a, const Json& made, const std::string& digest) {
  if (!made.is_object()) return;
  const Json inputs = made.value("inputs", Json());
  const std::string base = inputs.is_object() ? inputs.value("base", "") : "";
  if (!base.empty() && base != digest)
    warn(a.adapter + " was trained on " + made.value("model", "another model") + ", which is not this file: what it adds may not fit " +
         a.model);
}

Json plan(const Arguments& a, const fs::path& out, Model& model, const LoraFile& lora, const Common& common) {
  constexpr double kProgramBytes = 40e6, kWeightsPerSecond = 6e7;  // of one core
  const int threads = common.stage.threads > 0 ? common.stage.threads : physical_cores();
  const double source = double(model.file->file_bytes()), disk = double(merged_bytes(model, lora, a.type));
  const std::string text = std::to_string(lora.pairs.size()) + " linears of " + a.adapter + " into " + a.model + ", to " + a.type;
  return dry_run_document(text, {out},
                          {double(model.parameters()) / kWeightsPerSecond / threads, kProgramBytes + source + 0.1 * disk, disk},
                          common.stage.threads);
}

Json merge_files(const Arguments& a, const Common& common) {
  check_type(a.type);
  double start = now_seconds();
  fs::path out = common.out.empty() ? fs::path(file_title(a.model) + "-merged.gguf") : common.out;
  check_output(out, common.stage.force);
  fs::path base = resolve_model(a.model, common.stage.offline);
  auto model = Model::open(base);
  LoraFile lora = read_adapter(a.adapter, *model);
  model->check_lora(lora, a.adapter);
  const std::string digest = model_digest(base);
  const Json training = training_of(a.adapter);
  warn_of_other_base(a, training, digest);
  Json document = {{"model", out}, {"base", a.model}, {"adapter", a.adapter}, {"type", a.type}, {"linears", lora.pairs.size()}};
  if (common.stage.dry_run) {
    document.update(plan(a, out, *model, lora, common));
    return document;
  }
  Pool pool(common.stage.threads);
  double kept = merge(*model, lora, out, a.type, pool);
  if (kept < 0.9)
    warn("only " + std::to_string(int(std::max(0.0, kept) * 100)) + " % of what the adapter adds is left: " + a.type +
         " rounds small changes away; merge to F16 and quantize that");
  document["update_kept"] = kept;
  document["bytes"] = fs::file_size(out);
  Json recipe = new_recipe("merge", common.stage);
  recipe["inputs"] = {{"base", digest}, {"path", fs::absolute(base).string()}, {"adapter", a.adapter}, {"type", a.type}};
  if (training.is_object()) recipe["training"] = training;
  recipe["lineage"] = read_lineage(base);
  recipe["seconds"] = now_seconds() - start;
  write_recipe(out, recipe);
  document["next"] = {"fettle quantize " + out.string(), "fettle run " + out.string() + " \"…\""};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("ADAPTER", a->adapter, "a GGUF adapter or a PEFT folder").require();
  o.add("--type", a->type, "format of the merged weights: F16, F32, Q8_0, …; same: each keeps its own, which may round the adapter away")
      .called("TYPE");
  common.add_output(o, "file to write (default: MODEL-merged.gguf here)");
  common.add_long(o, false);
  return [a, &common] { return merge_files(*a, common); };
}

void print(const Json& d) {
  std::printf("%s: %s linears of %s merged, %s\n", d["model"].get<std::string>().c_str(), d["linears"].dump().c_str(),
              d["adapter"].get<std::string>().c_str(), format_bytes(d["bytes"]).c_str());
}

}  // namespace

const Command command_merge = {"merge",
                               "Train",
                               "a model and an adapter as one file",
                               "fettle merge smollm2-135m-instruct runs/tickets/adapter.gguf --out tickets.gguf\n"
                               "fettle merge smollm2-135m-instruct my-peft-folder --type Q8_0 --out tickets-q8.gguf",
                               setup,
                               print};

}  // namespace fettle
