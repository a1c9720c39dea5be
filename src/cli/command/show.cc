// show: one registered model: where it is, what it came from.
#include "cli/model_use.h"
#include "cli/table.h"

namespace fettle {
namespace {

Json show_model(const std::string& name) {
  if (auto r = Registry().find(name)) {
    Json document = record_json(*r);
    document["recipe"] = r->recipe;
    document["next"] = {"fettle inspect " + r->label()};
    return document;
  }
  if (const CatalogueEntry* e = find_catalogue(name))
    return {{"model", e->name},  {"state", "not here yet"}, {"description", e->description},     {"licence", e->licence},
            {"bytes", e->bytes}, {"sources", e->sources},   {"next", {"fettle pull " + e->name}}};
  std::vector<std::string> known;
  for (const ModelRecord& r : Registry().list()) {
    if (r.name == name) throw refused(name, "has no version that is ready", "`fettle show " + r.label() + "` shows one that is not");
    known.push_back(r.name);
  }
  for (const CatalogueEntry& e : catalogue()) known.push_back(e.name);
  auto near = did_you_mean(name, known);
  throw refused(name, "is no model on this machine",
                near ? "did you mean " + *near + "?" : "`fettle list` shows what is here; `fettle inspect` reads files");
}

std::function<Json()> setup(Options& o, Common&) {
  auto name = std::make_shared<std::string>();
  o.add("MODEL", *name, "a name in the registry (tickets, tickets:3) or the catalogue").require();
  return [name] { return show_model(*name); };
}

void print(const Json& d) {
  std::vector<std::pair<std::string, std::string>> lines;
  for (const auto& [key, value] : d.items()) {
    if (key == "recipe" || key == "next" || key == "name" || key == "model_version") continue;
    if (key == "bytes")
      lines.emplace_back("size", format_bytes(value));
    else if (value.is_string())
      lines.emplace_back(key, value);
    else
      lines.emplace_back(key, value.dump());
  }
  std::fputs(pairs_text(lines).c_str(), stdout);
  if (d.contains("recipe") && !d["recipe"].is_null() && !d["recipe"].empty()) std::printf("recipe\n%s\n", d["recipe"].dump(2).c_str());
}

}  // namespace

const Command command_show = {
    "show", "Models", "one model: file, state, how it was made", "fettle show tickets\nfettle show tickets:3 --json", setup, print, false};

}  // namespace fettle
