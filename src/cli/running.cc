// One file PID.json per server. A process is known by its number and the time it started (field 22 of /proc/PID/stat, proc(5)), so that a
// number that the system has given to somebody else is never signalled. Not handled: servers of other users, of other homes, of containers.
#include "cli/running.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>
#include <thread>

namespace fettle {
namespace {

fs::path run_folder() { return fettle_home() / "run"; }

// Clock ticks since boot at which the process started; 0: there is none, or it has ended and waits for its parent.
uint64_t started_ticks(int64_t pid) {
  std::string stat;
  try {
    stat = read_text("/proc/" + std::to_string(pid) + "/stat", 4096);
  } catch (const Error&) {
    return 0;
  }
  const size_t name_end = stat.rfind(')');  // the name may hold anything
  if (name_end == stat.npos) return 0;
  const std::vector<std::string> fields = split(trim(std::string_view(stat).substr(name_end + 1)), ' ');
  if (fields.size() < 20 || fields[0] == "Z" || fields[0] == "X") return 0;
  return std::strtoull(fields[19].c_str(), nullptr, 10);
}

bool is_fettle(int64_t pid) {
  std::error_code error;
  const fs::path program = fs::read_symlink("/proc/" + std::to_string(pid) + "/exe", error);
  return !error && program.filename().string().starts_with("fettle");  // "fettle (deleted)" after a new build
}

bool lives(const Json& server) {
  const int64_t pid = server["pid"];
  return pid > 1 && started_ticks(pid) == server["ticks"].get<uint64_t>() && is_fettle(pid);
}

// nullopt: the file is none of ours, or broken.
std::optional<Json> read_server(const fs::path& file) {
  try {
    Json server = Json::parse(read_text(file, 1 << 20));
    const bool whole = server.is_object() && server.contains("pid") && server["pid"].is_number_integer() && server.contains("ticks") &&
                       server["ticks"].is_number_unsigned() && server.contains("port") && server["port"].is_number_integer() &&
                       server.contains("models") && server["models"].is_array() && server.contains("url") && server["url"].is_string() &&
                       server.contains("started") && server["started"].is_string();
    if (whole && std::all_of(server["models"].begin(), server["models"].end(), [](const Json& m) { return m.is_string(); })) return server;
  } catch (const std::exception&) {
    // removed meanwhile, or not JSON
  }
  return std::nullopt;
}

bool names(const Json& server, const std::string& word) {
  const auto& models = server["models"];
  return word == server["pid"].dump() || word == server["port"].dump() || std::find(models.begin(), models.end(), word) != models.end();
}

}  // namespace

RunningServer::RunningServer(Json server) : file_(run_folder() / (std::to_string(::getpid()) + ".json")) {
  server["pid"] = ::getpid();
  server["ticks"] = started_ticks(::getpid());
  const char* unknown = "`fettle ps` and `fettle stop` will not know this server: ";
  try {  // a full or read-only disk is no reason not to serve
    fs::create_directories(run_folder());
    write_text(file_, server.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
  } catch (const Error& error) {
    warn(unknown + error.text());
  } catch (const fs::filesystem_error& error) {
    warn(unknown + error.path1().string() + ": " + error.code().message());
  }
}

RunningServer::~RunningServer() {
  std::error_code ignored;
  fs::remove(file_, ignored);
}

std::vector<Json> running_servers() {
  std::vector<Json> servers;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(run_folder(), error)) {
    if (entry.path().extension() != ".json") continue;
    std::optional<Json> server = read_server(entry.path());
    if (server && lives(*server)) {
      servers.push_back(std::move(*server));
    } else {
      std::error_code ignored;
      fs::remove(entry.path(), ignored);
    }
  }
  std::sort(servers.begin(), servers.end(), [](const Json& a, const Json& b) { return a["ticks"] < b["ticks"]; });
  return servers;
}

const Json& server_named(const std::vector<Json>& servers, const std::string& word) {
  const Json* found = nullptr;
  for (const Json& server : servers) {
    if (!names(server, word)) continue;
    if (found) throw usage("more than one server is called " + word, "name its port: `fettle ps` lists them");
    found = &server;
  }
  if (!found) throw usage("no server of fettle's is called " + word, "`fettle ps` lists the servers that run");
  return *found;
}

bool stop_server(const Json& server, double seconds) {
  if (!lives(server)) return true;
  if (::kill(pid_t(server["pid"].get<int64_t>()), SIGTERM) != 0 && errno != ESRCH)
    throw failed("process " + server["pid"].dump(), "cannot be stopped: " + std::string(std::strerror(errno)));
  for (const double start = now_seconds(); now_seconds() - start < seconds;) {
    if (!lives(server)) return true;
    stop_if_interrupted();
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  return !lives(server);
}

}  // namespace fettle
