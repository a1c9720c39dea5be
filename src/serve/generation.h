// The bridge from the engine's thread to a connection: the answers that one HTTP request asks for.
//
// The engine's callback appends to a mailbox and wakes the connection by a posted handler, once per emptying; it never waits for a
// client. A client that does not read leaves its text in the mailbox: pieces are merged there, and an answer that has piled up
// kMaxPendingBytes is cancelled.
#pragma once
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/steady_timer.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "serve/context.h"

namespace fettle {

constexpr size_t kMaxPendingBytes = 4 << 20;

// One or more steps of one of the answers, in order.
struct AnswerEvent {
  int answer = 0;
  int tokens = 0;  // generated ones
  Piece piece;     // of several steps: their text together
};

class Generation : public std::enable_shared_from_this<Generation> {
 public:
  // Submits all requests; on an exception none runs on. executor: the connection's strand, on which all methods are called.
  // every_token: each token is an event of its own, for log-probabilities.
  static std::shared_ptr<Generation> start(const boost::asio::any_io_executor& executor, std::shared_ptr<Io> io, Engine& engine,
                                           std::vector<Request> requests, bool every_token);
  // What has come since the last call, at least one event; empty when all answers are over and told.
  boost::asio::awaitable<std::vector<AnswerEvent>> next();
  void cancel();
  // Cancels, and nobody will ask for next() again.
  void abandon();

  Generation(const boost::asio::any_io_executor& executor, std::shared_ptr<Io> io, Engine& engine, bool every_token)
      : io_(std::move(io)), engine_(engine), every_token_(every_token), wake_(executor) {}

 private:
  void take(int answer, const Piece& piece);
  void woken();
  std::shared_ptr<Io> io_;  // first: what follows needs it to the end
  Engine& engine_;          // used while a connection lives, and so does the engine
  const bool every_token_;
  boost::asio::steady_timer wake_;
  std::vector<uint64_t> ids_;
  std::mutex mutex_;  // the rest is shared with the engine's thread
  std::vector<AnswerEvent> events_;
  size_t pending_bytes_ = 0;
  int open_ = 0;
  bool posted_ = false, abandoned_ = false, overflowed_ = false;
};

}  // namespace fettle
