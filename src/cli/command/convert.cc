// convert: a model's weights in another format. So far from GGUF to GGUF.
#include <algorithm>

#include "cli/model_use.h"
#include "cli/quantizing.h"
#include "format/format.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, to = "gguf", type = "F16";
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
    if (error.code != Exit::refused || !loses_nothing(Gguf(source), type)) throw;
    return error.text();
  }
}

Json convert(const Arguments& a, const Common& common) {
  fs::path out = common.out.empty() ? fs::path(file_title(a.model) + "-" + a.type + ".gguf") : common.out;
  check_output(out, common.stage.force);
  fs::path source = resolve_model(a.model, common.stage.offline);
  const std::string problem = unfit(source, a.type);
  QuantizeOptions options;
  options.type = a.type;
  const auto tell = [&] {
    if (!problem.empty()) warn("nothing is lost, but `fettle run` refuses the copy as it does its source: " + problem);
  };
  if (common.stage.dry_run) {
    tell();
    const QuantizePlan plan = plan_quantizing(source, out, options, common.stage.threads);
    const std::string text = a.model + ", " + format_bytes(double(fs::file_size(source))) + ", to " + a.type;
    Json document = {{"source", a.model}, {"type", a.type}};
    document.update(dry_run_document(text, {out}, plan.needs, common.stage.threads));
    document["plan"].update(quantize_json(plan.result));
    return document;
  }
  const QuantizeResult result = quantize_with_progress(source, out, options, common.stage.threads);
  tell();
  Json document = {{"model", out}, {"source", a.model}, {"type", a.type}};
  document.update(quantize_json(result));
  document["next"] = {"fettle diff " + a.model + " " + out.string()};
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.add("--to", a->to, "kind of file").one_of({"gguf"}).called("KIND");
  o.add("--type", a->type, "format of the weights: F32, F16, BF16, Q8_0, …").called("TYPE");
  common.add_output(o, "file to write (default: MODEL-TYPE.gguf here)");
  common.add_long(o, false);
  return [a, &common] { return convert(*a, common); };
}

void print(const Json& d) {
  std::printf("%s: %s, %.2f bits per weight\n", d["model"].get<std::string>().c_str(), format_bytes(d["bytes"]).c_str(),
              d["bits_per_weight"].get<double>());
  for (const Json& remark : d["remarks"]) std::printf("note: %s\n", remark.get<std::string>().c_str());
}

}  // namespace

const Command command_convert = {
    "convert", "Files", "a model's weights in another format", "fettle convert model.gguf --to gguf --type F32 --out model-f32.gguf",
    setup,     print};

}  // namespace fettle
