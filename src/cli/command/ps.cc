// ps: the servers that this user has running.
#include "cli/running.h"
#include "cli/table.h"

namespace fettle {
namespace {

Json list_servers() {
  Json servers = Json::array();
  for (const Json& s : running_servers())
    servers.push_back({{"pid", s["pid"]}, {"port", s["port"]}, {"url", s["url"]}, {"models", s["models"]}, {"started", s["started"]}});
  return {{"servers", servers}};
}

std::function<Json()> setup(Options&, Common&) { return list_servers; }

void print(const Json& d) {
  if (d["servers"].empty()) say("no server is running; `fettle serve MODEL` starts one");
  Table table({"models", "url", "pid>", "started"});
  for (const Json& s : d["servers"]) {
    std::string models;
    for (const Json& m : s["models"]) models += (models.empty() ? "" : ", ") + m.get<std::string>();
    table.row({models, s["url"], s["pid"].dump(), s["started"]});
  }
  table.print();
}

}  // namespace

const Command command_ps = {"ps", "Use", "the servers that run on this machine", "fettle ps\nfettle ps --json", setup, print, false};

}  // namespace fettle
