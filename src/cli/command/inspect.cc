// inspect: what is in a model file, without opening it as a model: any GGUF will do, and folders of families that fettle knows.
#include "cli/gguf_json.h"
#include "cli/model_use.h"
#include "cli/table.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model;
  bool full = false, tensors = false;
};

Json inspect(const Arguments& a, const Common& common) {
  const Gguf file = open_model_file(resolve_model(a.model, common.stage.offline));
  Json tensors = Json::array(), types = Json::object();
  int64_t parameters = 0;
  uint64_t bytes = 0;
  for (const NamedTensor& t : file.tensors()) {
    tensors.push_back(tensor_json(t));
    parameters += t.tensor.shape.count();
    bytes += t.tensor.bytes.size();
    Json& type = types[t.tensor.format->name];
    if (type.is_null()) type = {{"tensors", 0}, {"bytes", 0}};
    type["tensors"] = type["tensors"].get<int>() + 1;
    type["bytes"] = type["bytes"].get<uint64_t>() + t.tensor.bytes.size();
  }
  return {{"model", a.model},
          {"path", fs::absolute(file.path())},
          {"architecture", file.string("general.architecture").value_or("")},
          {"parameters", parameters},
          {"bytes", model_bytes(file.path())},
          {"bits_per_weight", parameters ? 8.0 * double(bytes) / double(parameters) : 0},
          {"digest", model_digest(file.path())},
          {"types", types},
          {"tensors", tensors},
          {"metadata", metadata_json(file, a.full)},
          {"lineage", read_lineage(file.path())},
          {"list_tensors", a.tensors}};  // a wish of people: the document has them always
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  add_model(o, a->model);
  o.flag("--tensors", a->tensors, "list every tensor");
  o.flag("--full", a->full, "long metadata (vocabularies) whole");
  return [a, &common] { return inspect(*a, common); };
}

void print_tensors(const Json& d) {
  Table table({"tensor", "shape", "type", "size>"});
  for (const Json& t : d["tensors"]) {
    std::string shape;
    for (const Json& dim : t["shape"]) shape += (shape.empty() ? "" : " x ") + dim.dump();
    table.row({t["name"], shape, t["type"], format_bytes(t["bytes"])});
  }
  table.print();
}

void print(const Json& d) {
  std::fputs(pairs_text({{"file", d["path"]},
                         {"architecture", d["architecture"]},
                         {"parameters", format_count(d["parameters"])},
                         {"size", format_bytes(d["bytes"]) + ", " + number("%.2f", d["bits_per_weight"]) + " bits per weight"},
                         {"sha256", d["digest"]}})
                 .c_str(),
             stdout);
  std::puts("");
  Table types({"type", "tensors>", "size>"});
  for (const auto& [name, type] : d["types"].items()) types.row({name, type["tensors"].dump(), format_bytes(type["bytes"])});
  types.print();
  std::puts("");
  std::vector<std::pair<std::string, std::string>> metadata;
  for (const auto& [key, value] : d["metadata"].items())
    metadata.emplace_back(
        key, one_line(value.is_string() ? value.get<std::string>() : value.dump(-1, ' ', false, Json::error_handler_t::replace), 90));
  std::fputs(pairs_text(metadata).c_str(), stdout);
  if (!d["lineage"].is_null()) std::printf("\nlineage\n%s\n", d["lineage"].dump(2, ' ', false, Json::error_handler_t::replace).c_str());
  if (d["list_tensors"]) {
    std::puts("");
    print_tensors(d);
  }
}

}  // namespace

const Command command_inspect = {"inspect",
                                 "Files",
                                 "what is in a model file: tensors, types, metadata, lineage",
                                 "fettle inspect model.gguf\nfettle inspect tickets --tensors",
                                 setup,
                                 print,
                                 false};

}  // namespace fettle
