// Private to cli: the servers that this user has running, as files under the home's run/ folder.
#pragma once
#include <string>
#include <vector>

#include "cli/cli.h"

namespace fettle {

// Tells `fettle ps` and `fettle stop` of this process until it is destroyed. A killed server's file stays; whoever lists takes it away.
class RunningServer {
 public:
  // server: url, port, models, started. Where the file cannot be written, a warning says so.
  explicit RunningServer(Json server);
  ~RunningServer();
  RunningServer(const RunningServer&) = delete;
  RunningServer& operator=(const RunningServer&) = delete;

 private:
  fs::path file_;
};

// Servers that live, the oldest first: pid, url, port, models, started. Files of dead ones are removed: of processes that are gone, that
// are another program's, or that started later than the file says (the number was given again).
std::vector<Json> running_servers();

// Those of `servers` that `word` names: a model, a port, or a process. Error{usage} when it names none, or several.
const Json& server_named(const std::vector<Json>& servers, const std::string& word);

// Asks it to end as Ctrl-C does and waits; false when it still answers somebody after `seconds`.
bool stop_server(const Json& server, double seconds);

}  // namespace fettle
