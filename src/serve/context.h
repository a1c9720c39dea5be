// What all connections of one server share.
#pragma once
#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/thread_pool.hpp>
#include <memory>
#include <string>
#include <vector>

#include "serve/metrics.h"
#include "serve/serve.h"

namespace fettle {

// A model and how many of its answers are under way; more than engine.parallel + max_queue are refused.
struct Served {
  std::string name, label;  // label: another name that is understood, "tickets:3"; may be empty
  std::shared_ptr<Engine> engine;
  std::atomic<int> under_way{0};
};

// Its own object, because an answer that the engine still writes may outlive the server by a moment.
struct Io {
  boost::asio::io_context context{2};
};

struct Context {
  ServeOptions options;
  bool loopback = true;  // bound to a loopback address
  int64_t started = 0;   // Unix time
  std::vector<std::unique_ptr<Served>> models;
  std::shared_ptr<Io> io = std::make_shared<Io>();
  std::atomic<bool> draining{false};
  std::atomic<bool> cutting{false};  // the drain's time is over
  Metrics metrics;
  // Where embeddings are computed: one request at a time, each on all cores. Last: it ends before the rest does.
  boost::asio::thread_pool embedding{1};

  // ApiError 404 naming the models. Absent (nullptr): the only one there is, else 400.
  Served& model(const std::string* name) const;
  // The same for one that is to write text. ApiError 400: it is an encoder.
  Served& text_model(const std::string* name) const;
};

int64_t unix_time();
// "chatcmpl-" and 24 random characters.
std::string random_id(const char* prefix);

}  // namespace fettle
