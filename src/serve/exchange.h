// One request and the ways to answer it; what a route sees of HTTP.
#pragma once
#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/awaitable.hpp>
#include <boost/beast/http/message.hpp>
#include <boost/beast/http/string_body.hpp>
#include <functional>
#include <string>

#include "serve/api_error.h"
#include "serve/context.h"
#include "serve/gate.h"

namespace fettle {

using HttpRequest = boost::beast::http::request<boost::beast::http::string_body>;
using HttpResponse = boost::beast::http::response<boost::beast::http::string_body>;
class Connection;

class Exchange {
 public:
  Exchange(Connection& connection, Context& context, const HttpRequest& request, std::string rest);

  Context& context;
  const HttpRequest& request;
  const std::string rest;                        // Route::rest
  const double started;                          // now_seconds() when the request was whole
  int prompt_tokens = 0, completion_tokens = 0;  // for the log
  bool client_gone = false;

  boost::asio::awaitable<void> send_json(std::string body);
  boost::asio::awaitable<void> send_text(std::string body, const char* type);
  boost::asio::awaitable<void> send_error(const ApiError& error);
  boost::asio::awaitable<void> send_options();
  // Server-sent events; text must be whole events.
  boost::asio::awaitable<void> begin_events();
  boost::asio::awaitable<void> events(std::string text);
  boost::asio::awaitable<void> end_events();

  // gone() is called, once and on this strand, when the client leaves before the answer is complete.
  void watch(std::function<void()> gone);
  boost::asio::any_io_executor executor();
  bool begun() const { return status_ != 0; }
  unsigned status() const { return status_; }
  bool keeps_alive() const { return keep_alive_; }

 private:
  HttpResponse response(unsigned status);
  boost::asio::awaitable<void> send(HttpResponse response);
  std::string filler() const;
  Connection& connection_;
  unsigned status_ = 0;
  bool keep_alive_;
};

// A response with the headers that every one has.
HttpResponse make_response(const Context& context, const RequestHead& head, unsigned status, bool keep_alive);
// The same with an error's body and headers.
HttpResponse make_error(const Context& context, const RequestHead& head, const ApiError& error, bool keep_alive);

}  // namespace fettle
