// convert: a model as another kind of file, or its weights in another format: GGUF, a Hugging Face folder, a GGUF with Ollama's Modelfile.
#include <algorithm>

#include "cli/model_use.h"
#include "cli/ollama.h"
#include "cli/quantizing.h"
#include "format/format.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, to = "gguf", type, importance;
  int64_t bits = 4, group = 0, importance_rows = 256;
  bool packs() const { return to == "gptq" || to == "awq" || to == "nf4"; }
  bool folder() const { return to == "hf" || packs(); }
};

// Whether every weight can be read back from the copy as it was: F32 holds what any format means.
bool loses_nothing(const Gguf& file, const std::string& type) {
  const Format* to = find_format(type);
  return to && std::ranges::all_of(file.tensors(), [&](const NamedTensor& t) {
           return t.tensor.format == to || t.tensor.shape.n < 2 || std::string_view(to->name) == "F32";
         });
}

// Why `fettle run` would refuse the file, "" when it would not. Such a file is no use as a model, but a copy that loses nothing may be one
// for another program; any other is refused here.
std::string unfit(const fs::path& source, const std::string& type) {
  try {
    Model::open(source);
    return "";
  } catch (const Error& error) {
    if (error.code != Exit::refused || !loses_nothing(open_model_file(source), type)) throw;
    return error.text();
  }
}

Json to_gguf(const Arguments& a, const std::string& type, const fs::path& source, const fs::path& out, const Common& common) {
  const std::string problem = unfit(source, type);
  QuantizeOptions options;
  options.type = type;
  const auto tell = [&] {
    if (!problem.empty()) warn("nothing is lost, but `fettle run` refuses the copy as it does its source: " + problem);
  };
  Json document = {{"source", a.model}, {"type", type}};
  if (common.stage.dry_run) {
    tell();
    const QuantizePlan plan = plan_quantizing(source, out, options, common.stage.threads);
    const std::string text = a.model + ", " + format_bytes(double(model_bytes(source))) + ", to " + type;
    document.update(dry_run_document(text, {out}, plan.needs, common.stage.threads));
    document["plan"].update(quantize_json(plan.result));
    return document;
  }
  const double start = now_seconds();
  const QuantizeResult result = quantize_with_progress("convert", source, out, options, common.stage.threads);
  tell();
  document["model"] = out;
  document.update(quantize_json(result));
  Json recipe = new_recipe("convert", common.stage);
  recipe["inputs"] = {{"source", model_digest(source)}, {"path", fs::absolute(source).string()}, {"to", "gguf"}, {"type", type}};
  recipe["lineage"] = read_lineage(source);
  recipe["seconds"] = now_seconds() - start;
  write_recipe(out, recipe);
  document["next"] = {"fettle diff " + a.model + " " + out.string()};
  return document;
}

// Weights that share a scale: what --group says, else the most that divides every linear's inputs.
int pack_group(const Arguments& a, Model& model) {
  if (a.to == "nf4") return 64;
  if (a.group) return int(a.group);
  for (int group : {128, 64})
    if (std::ranges::all_of(model.linears(), [&](const Linear* l) { return l->in % group == 0; })) return group;
  return 32;
}

const Format* folder_floats(const std::string& type) {
  const Format* f = find_format(type);
  if (!f || f->group > 0 || !f->encode) throw usage("a Hugging Face folder holds floats, not " + type, "--type F32, F16 or BF16");
  return f;
}

Json to_hf(const Arguments& a, const fs::path& source, const fs::path& out, const Common& common) {
  const auto model = Model::open(source);  // refuses what `fettle run` would
  const Gguf& file = *model->file;
  // readers of packed weights multiply in f16
  const Format* type = !a.type.empty() ? folder_floats(a.type) : a.packs() ? find_format("F16") : hf_format(file);
  const auto packer = a.packs() ? weight_packer(a.to, int(a.bits), pack_group(a, *model)) : nullptr;
  QuantizeOptions chosen;
  Pool pool(common.stage.threads);
  HfWriteOptions options{.type = type, .packer = packer.get(), .encode = [&](const NamedTensor& weight) {
                           return encode_tensor(weight, *packer->format(), chosen, pool);
                         }};
  const HfWritten planned = plan_hf(file, options);
  std::vector<std::string> remarks;
  if (packer) remark_if_larger(remarks, planned.bytes, model_bytes(source));
  const Json about = {{"bytes", planned.bytes},
                      {"bits_per_weight", 8 * double(planned.bytes) / double(model->parameters())},
                      {"types", {{type->name, planned.tensors}}},
                      {"remarks", remarks}};
  Json document = {{"source", a.model}, {"type", type->name}};
  if (common.stage.dry_run) {
    constexpr double kProgramBytes = 40e6, kCopied = 8e7, kPacked = 4e6;  // weights in a second
    document.update(dry_run_document(
        a.model + ", to a folder in " + (packer ? a.to : type->name), {out},
        {double(model->parameters()) / (packer ? kPacked : kCopied), kProgramBytes + double(file.file_bytes()), double(planned.bytes)},
        common.stage.threads));
    document["plan"].update(about);
    return document;
  }
  const double start = now_seconds();
  MeasuredInputs measured;
  if (!a.importance.empty()) measured = measure_inputs(a.importance, source, a.importance_rows, common.stage);
  chosen.importance = a.importance.empty() ? nullptr : &measured.importance;
  chosen.calibration = measured.calibration.get();
  Progress progress("convert", int64_t(file.file_bytes()), "B");
  options.progress = [&](uint64_t done, uint64_t) { progress.update(int64_t(done)); };
  write_hf(file, out, options);
  progress.finish(format_bytes(double(planned.bytes)));
  Json recipe = new_recipe("convert", common.stage);
  recipe["inputs"] = {{"source", model_digest(source)}, {"path", fs::absolute(source).string()}, {"to", a.to}, {"type", type->name}};
  if (packer) recipe["packing"] = packer->config();
  if (!a.importance.empty()) recipe["inputs"]["importance"] = a.importance;
  recipe["lineage"] = read_lineage(source);
  recipe["seconds"] = now_seconds() - start;
  write_recipe(out, recipe);
  document["model"] = out;
  document.update(about);
  document["next"] = {"fettle inspect " + out.string()};
  return document;
}

// A Modelfile beside a GGUF: the model's own, where it is one and nothing else is asked for.
Json to_ollama(const Arguments& a, const fs::path& source, const fs::path& out, const Common& common) {
  Json document;
  std::string from = fs::absolute(source).lexically_normal().string();
  if (fs::is_directory(source) || !a.type.empty()) {
    const std::string type = a.type.empty() ? "F16" : a.type;
    const fs::path gguf = out.parent_path() / (file_title(a.model) + "-" + type + ".gguf");
    check_output(gguf, common.stage.force);
    document = to_gguf(a, type, source, gguf, common);
    from = "./" + gguf.filename().string();
    if (!common.stage.dry_run) document["remarks"].push_back("the weights are in " + gguf.string() + ", which the Modelfile names");
  } else {
    const Gguf file(source);
    document = {{"source", a.model},
                {"type", nullptr},
                {"bytes", file.file_bytes()},
                {"bits_per_weight", nullptr},
                {"remarks", llama_cpp_differences(file)}};
    if (common.stage.dry_run) document.update(dry_run_document("a Modelfile for " + a.model, {out}, {}, common.stage.threads));
  }
  if (common.stage.dry_run) return document;
  const Modelfile modelfile = modelfile_of(open_model_file(source), from);
  if (modelfile.format.empty())
    document["remarks"].push_back("the chat template is none that is known here in Go's language: Ollama will guess from the GGUF");
  write_text(out, modelfile.text);
  document["model"] = out;
  document["chat_format"] = modelfile.format.empty() ? Json() : Json(modelfile.format);
  document["next"] = {"ollama create " + file_title(a.model) + " -f " + out.string()};
  return document;
}

// What a GGUF is written in where nobody says: F16, or, of a folder whose weights are packed, what holds them as they are.
std::string usual_type(const fs::path& source) {
  std::error_code ignored;
  if (!fs::is_directory(source, ignored)) return "F16";
  const Gguf file = open_model_file(source);
  return std::ranges::any_of(file.tensors(), [](const NamedTensor& t) { return t.tensor.format->group > 0; }) ? "same" : "F16";
}

void check_folder(const fs::path& folder, bool force) {
  refuse_existing(folder, force);
  std::error_code ignored;
  // --force replaces a model, never a folder of something else
  if (fs::exists(folder, ignored) && !fs::exists(folder / "config.json", ignored))
    throw usage(folder.string() + " is there and is no model's folder", "--out names another place");
  const fs::path parent = fs::absolute(folder).parent_path();
  if (!fs::is_directory(parent, ignored)) throw usage("there is no folder " + parent.string(), "mkdir -p " + parent.string());
}

// What is wrong with the options whatever the model is.
void check(const Arguments& a) {
  if (!a.importance.empty() && a.to != "gptq" && a.to != "awq")
    throw usage("--importance is for --to gptq and --to awq, which choose codes", "fettle quantize makes a GGUF with it");
  if (a.packs()) weight_packer(a.to, int(a.bits), a.group ? int(a.group) : a.to == "nf4" ? 64 : 32);
  if (a.type.empty()) return;
  if (a.folder())
    folder_floats(a.type);
  else
    check_type(a.type);
}

Json convert(const Arguments& a, const Common& common) {
  check(a);
  const std::string title = file_title(a.model);
  const auto named = [&](const std::string& otherwise) { return common.out.empty() ? fs::path(otherwise) : common.out; };
  if (a.folder()) {
    fs::path out = named(title + "-" + a.to);
    if (!out.has_filename()) out = out.parent_path();  // "folder/"
    check_folder(out, common.stage.force);
    const fs::path source = resolve_model(a.model, common.stage.offline);
    std::error_code ignored;
    if (fs::equivalent(source, out, ignored)) throw usage("source and target are the same folder: " + out.string(), "name another target");
    return to_hf(a, source, out, common);
  }
  if (a.to == "ollama") {
    const fs::path out = named(title + ".Modelfile");
    check_output(out, common.stage.force);
    return to_ollama(a, resolve_model(a.model, common.stage.offline), out, common);
  }
  const fs::path source = resolve_model(a.model, common.stage.offline);
  const std::string type = a.type.empty() ? usual_type(source) : a.type;
  const fs::path out = named(title + (type == "same" ? "" : "-" + type) + ".gguf");
  check_output(out, common.stage.force);
  Json document = to_gguf(a, type, source, out, common);
  if (a.type.empty() && type == "same" && !common.stage.dry_run)
    document["remarks"].push_back("weights are kept as the folder packs them; --type makes them others");
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("--to", a->to,
        "kind of file: a GGUF, a Hugging Face folder (hf; gptq, awq, nf4: with packed weights), or a Modelfile beside a GGUF")
      .one_of({"gguf", "hf", "gptq", "awq", "nf4", "ollama"})
      .called("KIND");
  o.add("--type", a->type,
        "format of the weights: F32, F16, BF16, Q8_0, … (default: F16; with --to hf the model's own floats; of a folder with "
        "packed weights, its codes as they are)")
      .called("TYPE");
  o.add("--bits", a->bits, "bits of a code (gptq: 2, 3, 4 or 8; awq, nf4: 4)");
  o.add("--group", a->group, "weights that share a scale (gptq, awq): 32, 64 or 128 (default: the most that divides all inputs)")
      .value.clear();
  o.add("--importance", a->importance, "choose codes of gptq and awq by what these examples, this text, or this imatrix file say")
      .called("DATA");
  o.add("--importance-rows", a->importance_rows, "most rows of it to read");
  common.add_output(o,
                    "what to write (default: MODEL-TYPE.gguf, MODEL-hf and so on, or MODEL.Modelfile here); beside it PATH.recipe.json "
                    "says how it was made");
  common.add_long(o, false);
  return [a, &common] { return convert(*a, common); };
}

void print(const Json& d) {
  std::printf("%s: %s", d["model"].get<std::string>().c_str(), format_bytes(d["bytes"]).c_str());
  if (d["bits_per_weight"].is_number()) std::printf(", %.2f bits per weight", d["bits_per_weight"].get<double>());
  std::puts("");
  for (const Json& remark : d["remarks"]) std::printf("note: %s\n", remark.get<std::string>().c_str());
}

}  // namespace

const Command command_convert = {"convert",
                                 "Files",
                                 "a model as another kind of file, or in another format",
                                 "fettle convert model.gguf --to hf --type BF16 --out model\n"
                                 "fettle convert model --to gguf --type Q8_0 --out model.gguf\n"
                                 "fettle convert model --to gptq --bits 4 --group 128 --importance tickets.jsonl\n"
                                 "fettle convert model.gguf --to ollama",
                                 setup,
                                 print};

}  // namespace fettle
