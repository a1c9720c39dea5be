// Room serve: HTTP/1.1 (Boost.Beast), routes to engines. Knows no tensors. One route is one file.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace fettle {

struct ServeOptions {
  std::string host = "127.0.0.1";
  int port = 8484;      // 0: any free one
  std::string api_key;  // empty: none asked. Else every route but /health wants "Authorization: Bearer KEY"
  int max_connections = 256;
  int max_queue = 256;  // waiting answers of one model before 429
  uint64_t max_body_bytes = 8 << 20;
  uint32_t max_header_bytes = 16 << 10;
  double read_timeout_s = 30, write_timeout_s = 60;  // to read one request's head, its body; to write one piece of an answer
  double idle_timeout_s = 120;                       // between two requests of one connection
  double drain_s = 10;                               // what stop() gives to running answers
  // Of requests that name none. OpenAI's default is 1; here it is 0 (greedy), because a tuned model is measured and gated greedily, and
  // what was measured is what a client that asks for nothing special shall get. Requests with n > 1 and no temperature get 1.
  float temperature = 0;
  // A browser page may reach a server on loopback under any name that its DNS answers (rebinding): there only loopback names and these
  // pass in the Host header. On other addresses a non-empty list is enforced too.
  std::vector<std::string> allowed_hosts;
  // Web pages that may call, as their browsers write them in Origin ("https://app.example"); "*": any. None by default.
  std::vector<std::string> allowed_origins;
};
struct ServedModel {
  std::string name;
  std::shared_ptr<Engine> engine;
  std::string label = {};  // another name that is understood: "tickets:3"
};

class Server {
 public:
  // Error{usage}: no models, two of one name, impossible options.
  Server(std::vector<ServedModel> models, ServeOptions options);
  ~Server();     // stop()
  void start();  // binds and returns; Error{failed} when the port is taken
  int port() const;
  std::string url() const;  // "http://127.0.0.1:8484"
  void wait();              // until stop() or Ctrl-C, which drains as stop() does
  void stop();              // drains: running answers finish (up to drain_s), new ones are refused

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fettle
