// Room serve: HTTP/1.1 (Boost.Beast), routes to engines. Knows no tensors. One route is one file.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"

namespace fettle {

struct ServeOptions {
  std::string host = "127.0.0.1";
  int port = 8484;                    // 0: any free one
  std::string api_key;                // empty: none asked
  int max_connections = 256;
  int max_queue = 256;                // waiting requests before 429
  uint64_t max_body_bytes = 8 << 20;
  double read_timeout_s = 30, write_timeout_s = 60;
};
struct ServedModel {
  std::string name;
  std::shared_ptr<Engine> engine;
};

class Server {
 public:
  Server(std::vector<ServedModel> models, ServeOptions options);
  ~Server();
  void start();                       // binds and returns; Error{failed} when the port is taken
  int port() const;
  void wait();                        // until stop() or Ctrl-C
  void stop();                        // drains: running answers finish (up to 10 s), new ones are refused

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fettle
