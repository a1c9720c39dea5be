// config: every option in force and where it came from.
#include <cstdlib>

#include "cli/model_use.h"
#include "cli/table.h"

namespace fettle {
namespace {

Json option_rows(const Invocation& call, bool common) {
  Json rows = Json::array();
  for (const Option& o : call.options.all())
    if (!o.positional() && o.common == common)
      rows.push_back({{"option", o.name()}, {"value", o.value_name.empty() && o.value.empty() ? "false" : o.value}, {"source", o.source}});
  return rows;
}

const Command& command_of(const std::vector<std::string>& verb) {
  std::string name, known;
  for (const std::string& word : verb) name += (name.empty() ? "" : " ") + word;
  std::vector<std::string> names;
  for (const Command* c : commands()) {
    if (name == c->name) return *c;
    names.push_back(c->name);
  }
  auto near = did_you_mean(name, names);
  throw usage("there is no command '" + name + "'", near ? "did you mean " + *near + "?" : "`fettle --help` lists the commands");
}

Json environment() {
  Json rows = Json::array();
  for (const char* name : {"FETTLE_HOME", "FETTLE_ISA", "HF_ENDPOINT"})
    if (const char* value = std::getenv(name)) rows.push_back({{"option", name}, {"value", value}, {"source", "environment"}});
  for (const char* name : {"FETTLE_API_KEY", "HF_TOKEN"})
    if (std::getenv(name)) rows.push_back({{"option", name}, {"value", "(set)"}, {"source", "environment"}});
  return rows;
}

Json effective(const std::vector<std::string>& verb, const Common& common) {
  Invocation call;
  call.common.config_file = common.config_file;
  set_up(verb.empty() ? command_config : command_of(verb), call);
  apply_config(call);
  Json rows = verb.empty() ? Json::array() : option_rows(call, false);
  for (const Json& row : option_rows(call, true)) rows.push_back(row);
  for (const Json& row : environment()) rows.push_back(row);
  return {{"home", fettle_home()}, {"options", rows}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto verb = std::make_shared<std::vector<std::string>>();
  o.add("COMMAND", *verb, "the options of this command; left out: of all commands");
  return [verb, &common] { return effective(*verb, common); };
}

void print(const Json& d) {
  Table table({"option", "value", "from"});
  for (const Json& row : d["options"]) table.row({row["option"], row["value"], row["source"]});
  table.row({"home", d["home"], ""});
  table.print();
}

}  // namespace

const Command command_config = {
    "config", "About", "every option in force and where it came from", "fettle config\nfettle config tune", setup, print, false};

}  // namespace fettle
