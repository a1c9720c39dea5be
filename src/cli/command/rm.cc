// rm: models leave the registry and the disk.
#include <algorithm>

#include "cli/model_use.h"

namespace fettle {
namespace {

Json remove_models(const std::vector<std::string>& names, const Common& common) {
  Registry registry;
  Json removed = Json::array(), tags = Json::array();
  uint64_t bytes = 0;
  const std::vector<Registry::Tag> all = registry.tags();
  for (const std::string& name : names) {  // all or none: an error here removes nothing
    const ModelRecord record = registry.removable(name);
    const bool is_tag = std::any_of(all.begin(), all.end(), [&](const Registry::Tag& t) { return t.name == name; });
    if (is_tag) continue;
    bytes += record.bytes;
    for (const Registry::Tag& t : all)
      if (t.label == record.label()) tags.push_back(t.name);
  }
  for (const std::string& name : names) {
    if (!common.stage.dry_run) registry.remove(name);
    removed.push_back(name);
  }
  return {{"removed", removed}, {"tags", tags}, {"bytes", bytes}, {"dry_run", common.stage.dry_run}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto names = std::make_shared<std::vector<std::string>>();
  o.add("MODEL", *names, "names or labels in the registry; a name of several versions needs its version").require();
  common.add_long(o, false, "say what would be removed, remove nothing");
  return [names, &common] { return remove_models(*names, common); };
}

void print(const Json& d) {
  for (const Json& name : d["removed"]) std::printf("%s %s\n", d["dry_run"] ? "would remove" : "removed", name.get<std::string>().c_str());
  for (const Json& tag : d["tags"])
    std::printf("%s with it: the tag %s\n", d["dry_run"] ? "would go" : "gone", tag.get<std::string>().c_str());
}

}  // namespace

const Command command_rm = {
    "rm", "Models", "remove models from this machine", "fettle rm tickets:2\nfettle rm tickets:1 tickets:2 --dry-run", setup, print, false};

}  // namespace fettle
