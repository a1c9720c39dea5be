// inspect: what is in a model file, and whether it runs here: any GGUF will do, and any folder of safetensors.
#include "cli/gguf_json.h"
#include "cli/model_use.h"
#include "cli/table.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model;
  bool full = false, tensors = false;
};

// What was found, however much of it there is.
struct Contents {
  std::string architecture;
  Json tensors = Json::array(), metadata;
  int64_t parameters = 0;
};

Contents contents_of(const Gguf& file, bool full) {
  Contents c{file.string("general.architecture").value_or("")};
  for (const NamedTensor& t : file.tensors()) {
    c.tensors.push_back(tensor_json(t));
    c.parameters += t.tensor.shape.count();
  }
  c.metadata = metadata_json(file, full);
  return c;
}

// A folder that fettle cannot take for a model, as it lies there: its own names of tensors, and what config.json says.
Contents contents_of_folder(const fs::path& folder) {
  Contents c;
  c.metadata = read_json((folder / "config.json").string());
  if (c.metadata.is_object() && c.metadata.contains("model_type") && c.metadata["model_type"].is_string())
    c.architecture = c.metadata["model_type"];
  for (const Safetensors& file : open_safetensors(folder))
    for (const RawTensor& t : file.raw()) {
      c.tensors.push_back({{"name", t.name}, {"shape", shape_json(t.shape)}, {"type", t.dtype}, {"bytes", t.bytes.size()}});
      c.parameters += t.shape.count();
    }
  return c;
}

// Opened as `fettle run` would; what that refuses is told in `why`, and shown as far as it can be read.
Contents read_contents(const fs::path& path, bool full, std::optional<Error>& why) {
  const auto or_why = [&](auto&& open) -> std::optional<Contents> {
    try {
      return open();
    } catch (const Error& error) {
      if (error.code != Exit::refused) throw;
      if (!why) why = error;
    }
    return std::nullopt;
  };
  if (auto model = or_why([&] { return contents_of(*Model::open(path)->file, full); })) return *model;
  if (!fs::is_directory(path)) return contents_of(Gguf(path), full);
  if (auto folder = or_why([&] { return contents_of(open_model_file(path), full); })) return *folder;
  return contents_of_folder(path);
}

Json inspect(const Arguments& a, const Common& common) {
  const fs::path path = resolve_model(a.model, common.stage.offline);
  std::optional<Error> why;
  Contents c = read_contents(path, a.full, why);
  Json types = Json::object();
  for (const Json& t : c.tensors) {
    Json& type = types[t["type"].get<std::string>()];
    if (type.is_null()) type = {{"tensors", 0}, {"bytes", 0}};
    type["tensors"] = type["tensors"].get<int>() + 1;
    type["bytes"] = type["bytes"].get<uint64_t>() + t["bytes"].get<uint64_t>();
  }
  uint64_t bytes = 0;
  for (const auto& [name, type] : types.items()) bytes += type["bytes"].get<uint64_t>();
  return {{"model", a.model},
          {"path", fs::absolute(path)},
          {"runs", !why},
          {"why_not", why ? Json(why->text()) : Json()},
          {"architecture", c.architecture},
          {"parameters", c.parameters},
          {"bytes", model_bytes(path)},
          {"bits_per_weight", c.parameters ? 8.0 * double(bytes) / double(c.parameters) : 0},
          {"digest", model_digest(path)},
          {"types", types},
          {"tensors", c.tensors},
          {"metadata", c.metadata},
          {"lineage", read_lineage(path)},
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
                         {"runs here", d["runs"] ? "yes" : "no: " + d["why_not"].get<std::string>()},
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
