// tag: another name for a version, so that programs can ask for "support:live".
#include "cli/model_use.h"

namespace fettle {
namespace {

struct Arguments {
  std::string model, name;
};

Json tag_model(const Arguments& a) {
  Registry registry;
  registry.tag(a.model, a.name);
  auto record = registry.find(a.name);
  return {{"tag", a.name}, {"model", record ? record->label() : a.model}, {"next", {"fettle serve " + a.name}}};
}

std::function<Json()> setup(Options& o, Common&) {
  auto a = std::make_shared<Arguments>();
  o.add("MODEL", a->model, "a name or label in the registry").require();
  o.add("TAG", a->name, "the other name; one that exists moves").require();
  return [a] { return tag_model(*a); };
}

void print(const Json& d) { std::printf("%s -> %s\n", d["tag"].get<std::string>().c_str(), d["model"].get<std::string>().c_str()); }

}  // namespace

const Command command_tag = {"tag", "Models", "give a version another name", "fettle tag tickets:3 support:live", setup, print, false};

}  // namespace fettle
