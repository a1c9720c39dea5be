// list: what is on this machine, and with --catalogue what could be.
#include "cli/model_use.h"
#include "cli/table.h"

namespace fettle {
namespace {

Json list_models(bool with_catalogue) {
  Json models = Json::array(), offered = Json::array();
  for (const ModelRecord& r : Registry().list()) models.push_back(record_json(r));
  Json tags = Json::array();
  for (const Registry::Tag& tag : Registry().tags()) tags.push_back({{"tag", tag.name}, {"model", tag.label}});
  Json document = {{"models", models}, {"tags", tags}};
  if (with_catalogue || models.empty()) {
    for (const CatalogueEntry& e : catalogue())
      offered.push_back(
          {{"name", e.name}, {"description", e.description}, {"licence", e.licence}, {"bytes", e.bytes}, {"sources", e.sources}});
    document["catalogue"] = offered;
  }
  if (models.empty() && !offered.empty()) document["next"] = {"fettle pull " + offered[0]["name"].get<std::string>()};
  return document;
}

std::function<Json()> setup(Options& o, Common&) {
  auto all = std::make_shared<bool>(false);
  o.flag("-a,--catalogue", *all, "also the models that `fettle pull` knows by name");
  return [all] { return list_models(*all); };
}

void print(const Json& d) {
  if (d["models"].empty()) say("no models on this machine yet; these can be pulled by name:");
  Table models({"model", "state", "size>", "created", "sha256"});
  for (const Json& m : d["models"])
    models.row({m["model"], m["state"], format_bytes(m["bytes"]), m["created"], m["digest"].get<std::string>().substr(0, 12)});
  models.print();
  if (!d["tags"].empty()) {
    std::puts("");
    Table tags({"tag", "stands for"});
    for (const Json& tag : d["tags"]) tags.row({tag["tag"], tag["model"]});
    tags.print();
  }
  if (!d.contains("catalogue")) return;
  if (!d["models"].empty()) std::puts("");
  Table offered({"catalogue", "size>", "licence", "what it is"});
  for (const Json& e : d["catalogue"])
    offered.row({e["name"], e["bytes"] > 0 ? format_bytes(e["bytes"]) : "?", e["licence"], e["description"]});
  offered.print();
}

}  // namespace

const Command command_list = {"list", "Models", "the models on this machine", "fettle list\nfettle list --catalogue", setup, print, false};

}  // namespace fettle
