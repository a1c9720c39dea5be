// stop: ends servers that `fettle ps` lists; running answers are finished first, as on Ctrl-C.
#include "cli/running.h"

namespace fettle {
namespace {

constexpr double kPatience = 15;  // a server gives its answers ten seconds

struct Arguments {
  std::vector<std::string> servers;
  bool all = false;
};

std::vector<Json> chosen(const Arguments& a) {
  std::vector<Json> running = running_servers(), some;
  if (a.all) return running;
  if (a.servers.empty()) {
    if (running.size() == 1) return running;
    throw usage(running.empty() ? "no server is running" : std::to_string(running.size()) + " servers are running: which one?",
                running.empty() ? "" : "name a model, a port or a process that `fettle ps` lists, or take --all");
  }
  for (const std::string& word : a.servers) some.push_back(server_named(running, word));
  return some;
}

Json stop(const Arguments& a) {
  Json stopped = Json::array();
  for (const Json& s : chosen(a)) {
    if (!stop_server(s, kPatience)) throw failed(s["url"], "is still answering", "ask again, or wait for it");
    stopped.push_back({{"pid", s["pid"]}, {"port", s["port"]}, {"url", s["url"]}, {"models", s["models"]}});
  }
  return {{"stopped", stopped}};
}

std::function<Json()> setup(Options& o, Common&) {
  auto a = std::make_shared<Arguments>();
  o.add("SERVER", a->servers, "its model, its port or its process; left out: the only one that runs");
  o.flag("--all", a->all, "every server that `fettle ps` lists");
  return [a] { return stop(*a); };
}

void print(const Json& d) {
  for (const Json& s : d["stopped"]) std::printf("stopped %s\n", s["url"].get<std::string>().c_str());
}

}  // namespace

const Command command_stop = {
    "stop", "Use", "end a server: running answers are finished first", "fettle stop tickets\nfettle stop 8484\nfettle stop --all", setup,
    print,  false};

}  // namespace fettle
