// serve: an OpenAI-compatible server on models of this machine. What HTTP means is serve's; here are options, the key and the address.
#include "serve/serve.h"

#include <cstdlib>

#include "cli/model_use.h"
#include "cli/running.h"

namespace fettle {
namespace {

struct Arguments {
  std::vector<std::string> models;
  std::string draft;
  fs::path key_file;
  ServeOptions serve;
  EngineOptions engine;
};

std::string api_key(const Arguments& a) {
  if (!a.key_file.empty()) {
    std::string key(trim(read_text(a.key_file, 4096)));
    if (key.empty() || key.find_first_of(" \t\r\n") != key.npos) throw refused(a.key_file.string(), "should hold one key on one line");
    return key;
  }
  const char* key = std::getenv("FETTLE_API_KEY");
  return key ? key : "";
}

bool is_loopback(const std::string& host) { return host == "localhost" || host == "::1" || host.starts_with("127."); }

// The names asked for; without any, the newest registered model that is ready.
std::vector<std::string> models_to_serve(const Arguments& a) {
  if (!a.models.empty()) return a.models;
  std::vector<ModelRecord> all = Registry().list();
  const ModelRecord* best = nullptr;
  for (const ModelRecord& r : all)
    if (r.state == "ready" && (!best || r.created >= best->created)) best = &r;
  for (const ModelRecord& r : all)
    if (!best && r.state == "base") best = &r;
  if (!best) throw usage("there is no model to serve", "name one: `fettle serve smollm2-135m-instruct`");
  const auto by_name = Registry().find(best->name);
  return {by_name && by_name->label() == best->label() ? best->name : best->label()};
}

std::string key_words(const Arguments& a) {
  if (!a.key_file.empty()) return "$(cat " + a.key_file.string() + ")";
  return std::getenv("FETTLE_API_KEY") ? "$FETTLE_API_KEY" : "";
}

void announce(const Arguments& a, const Common& common, const std::string& url, const std::vector<ServedModel>& models) {
  std::string key = key_words(a), text = "url    " + url + "\n";
  text += "key    " + (key.empty() ? std::string("none asked") : key) + "\n";
  for (const ServedModel& m : models) text += "model  " + m.name + "\n";
  const bool writes = models[0].engine->model().config.causal;
  text += "try    curl " + url + (writes ? "/chat/completions" : "/embeddings") + " -H 'Content-Type: application/json'" +
          (key.empty() ? "" : " -H \"Authorization: Bearer " + key + "\"") + " -d '{\"model\": \"" + models[0].name + "\", " +
          (writes ? "\"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}]" : "\"input\": \"Hello\"") + "}'\n";
  std::FILE* where = common.json ? stderr : stdout;
  std::fputs(text.c_str(), where);
  std::fflush(where);
}

Json serve(Arguments a, const Common& common) {
  a.serve.api_key = api_key(a);
  if (a.serve.port < 0 || a.serve.port > 65535) throw usage("--port: a number from 0 to 65535");
  if (!is_loopback(a.serve.host) && a.serve.api_key.empty())
    warn("anybody who reaches " + a.serve.host + " can use this server: set FETTLE_API_KEY or --key-file");
  a.engine.draft = open_draft(a.draft, common.stage);
  std::vector<ServedModel> models;
  Json names = Json::array();
  for (const std::string& name : models_to_serve(a)) {
    std::shared_ptr<Engine> engine = make_engine(open_model(name, common.stage), a.engine, common.stage);
    const auto record = names_a_file(name) ? std::nullopt : Registry().find(name);
    models.push_back({model_title(name), std::move(engine), record ? record->label() : ""});
    names.push_back(models.back().name);
  }
  std::vector<std::shared_ptr<Engine>> engines;
  for (const ServedModel& m : models) engines.push_back(m.engine);
  Server server(models, a.serve);
  server.start();
  std::string url = server.url() + "/v1";
  const RunningServer known({{"url", url}, {"port", server.port()}, {"models", names}, {"started", utc_timestamp()}});
  announce(a, common, url, models);
  server.wait();
  server.stop();
  Json document = {{"url", url}, {"models", names}, {"requests", 0}, {"tokens", 0}, {"cached_tokens", 0}};
  for (const auto& engine : engines) {
    EngineStats stats = engine->stats();
    document["requests"] = document["requests"].get<uint64_t>() + stats.requests;
    document["tokens"] = document["tokens"].get<uint64_t>() + stats.generated_tokens;
    document["cached_tokens"] = document["cached_tokens"].get<uint64_t>() + stats.cached_tokens;
  }
  document["closing"] = document["requests"].dump() + " requests, " + document["tokens"].dump() + " tokens";
  return document;
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("MODEL", a->models, "names or files (default: the newest model that is ready)");
  o.add("--host", a->serve.host, "address to listen on; 0.0.0.0: all");
  o.add("--port", a->serve.port, "port; 0: any free one");
  o.add("--key-file", a->key_file, "file with the key that clients must send (or FETTLE_API_KEY in the environment)").called("FILE");
  o.add("--parallel", a->engine.parallel, "answers computed together");
  add_engine(o, a->engine, a->draft);
  o.add("--temperature", a->serve.temperature, "for requests that name none; 0: what was measured is what is served");
  o.add("--allow-host", a->serve.allowed_hosts, "a name that clients may call this server by (may be given several times)").called("NAME");
  o.add("--allow-origin", a->serve.allowed_origins, "a web page's origin that may call (https://app.example); *: any").called("ORIGIN");
  o.add("--max-queue", a->serve.max_queue, "requests that may wait before others are told to come back");
  return [a, &common] { return serve(*a, common); };
}

}  // namespace

const Command command_serve = {"serve",
                               "Use",
                               "an OpenAI-compatible server",
                               "fettle serve tickets\n"
                               "FETTLE_API_KEY=secret fettle serve tickets smollm2-135m-instruct --host 0.0.0.0 --port 8484\n"
                               "fettle serve tickets --parallel 32 --context 2048",
                               setup,
                               nullptr};

}  // namespace fettle
