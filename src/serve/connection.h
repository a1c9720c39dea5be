// One client's connection: requests read one after another under limits and deadlines, answered in order (so pipelining is safe), and
// the client's leaving noticed while an answer is being made.
//
// Everything of a connection runs on its strand. A client that closes its sending side may still read (`nc -N`, some proxies) or may have
// left: TCP says the same of both (RFC 9293, 3.6), until something is sent, which a client that left answers with a reset. So it is sent,
// once, something that HTTP clients read past. One that reads no such thing (HTTP/1.0 and no stream), or that leaves only later, is noticed
// by what is sent next, or by TCP's own probes within about two minutes. Not handled: TLS, HTTP/2, content encodings.
#pragma once
#include <atomic>
#include <boost/asio/awaitable.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/core/tcp_stream.hpp>
#include <functional>
#include <memory>
#include <string>

#include "serve/context.h"
#include "serve/exchange.h"
#include "serve/route.h"

namespace fettle {

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  // How hard stop() ends it: only where it waits for a request; the answer being made; at once.
  enum class Shut { idle, answer, now };

  Connection(boost::asio::ip::tcp::socket socket, Context& context);
  // Runs until the client goes, a limit is passed or the server drains; then calls ended().
  void start(std::function<void()> ended);
  void shut(Shut how);  // from any thread
  // Since when it has been waiting for a whole request; negative: it is answering one. From any thread.
  double idle_since() const { return idle_since_.load(); }
  bool leaving() const { return leaving_.load(); }  // shut() was called

  // For Exchange. Sends with a deadline for each bit of progress; throw boost::system::system_error when the client is gone or too slow.
  boost::asio::awaitable<void> send(HttpResponse response);
  boost::asio::awaitable<void> send_head(HttpResponse response);
  boost::asio::awaitable<void> send_text(std::string text, bool chunked, bool last);
  // gone() is called once, on the strand, when the client leaves before unwatch(). filler: what may be sent just then without changing the
  // answer's meaning; empty: nothing.
  void watch(std::function<void()> gone, std::function<std::string()> filler);
  void unwatch();
  boost::asio::any_io_executor executor() { return stream_.get_executor(); }

 private:
  boost::asio::awaitable<void> run();
  boost::asio::awaitable<bool> one_request();
  boost::asio::awaitable<bool> first_bytes();
  boost::asio::awaitable<bool> answer(const HttpRequest& request, const Route* route, const std::string& rest);
  boost::asio::awaitable<void> refuse(ApiError error, RequestHead head);
  boost::asio::awaitable<void> linger();
  void wait_readable();
  void on_readable(boost::system::error_code error);
  void send_filler();

  Context& context_;
  boost::beast::tcp_stream stream_;
  boost::beast::flat_buffer buffer_;  // what was read beyond the current request
  std::atomic<double> idle_since_;
  std::atomic<bool> leaving_{false};
  bool shut_ = false, fresh_ = true;
  bool half_closed_ = false;  // the client sends no more
  bool writing_ = false;
  std::function<void()> gone_;
  std::function<std::string()> filler_;
  uint64_t epoch_ = 0;  // of the watch: handlers of an older one do nothing
  boost::asio::cancellation_signal unwatch_;
};

}  // namespace fettle
