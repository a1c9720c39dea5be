#include "serve/exchange.h"

#include "serve/connection.h"

namespace fettle {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;

bool chunked(const HttpRequest& request) { return request.version() >= 11; }

}  // namespace

HttpResponse make_response(const Context& context, const RequestHead& head, unsigned status, bool keep_alive) {
  HttpResponse response(http::int_to_status(status), head.version() == 10 ? 10 : 11);
  response.set(http::field::date, http_date(unix_time()));
  response.set(http::field::server, "fettle/" FETTLE_VERSION);
  response.set("X-Request-Id", random_id("req_"));
  response.set("X-Content-Type-Options", "nosniff");
  response.set(http::field::cache_control, "no-store");
  if (!context.options.allowed_origins.empty()) response.set(http::field::vary, "Origin");
  if (const std::string origin = cors_origin(context, head); !origin.empty()) {
    response.set(http::field::access_control_allow_origin, origin);
    response.set(http::field::access_control_expose_headers, "X-Request-Id, Retry-After");
  }
  response.keep_alive(keep_alive);
  return response;
}

HttpResponse make_error(const Context& context, const RequestHead& head, const ApiError& error, bool keep_alive) {
  HttpResponse response = make_response(context, head, error.status, keep_alive);
  response.set(http::field::content_type, "application/json");
  if (error.retry_after_s > 0) response.set(http::field::retry_after, std::to_string(error.retry_after_s));
  if (!error.allow.empty()) response.set(http::field::allow, error.allow);
  if (error.status == 401) response.set(http::field::www_authenticate, "Bearer");
  response.body() = error_body(error);
  response.prepare_payload();
  return response;
}

Exchange::Exchange(Connection& connection, Context& c, const HttpRequest& r, std::string rest_of_path)
    : context(c),
      request(r),
      rest(std::move(rest_of_path)),
      started(now_seconds()),
      connection_(connection),
      keep_alive_(r.keep_alive() && !c.draining) {}

HttpResponse Exchange::response(unsigned status) { return make_response(context, request, status, keep_alive_); }

asio::awaitable<void> Exchange::send(HttpResponse response) {
  status_ = response.result_int();
  response.prepare_payload();
  co_await connection_.send(std::move(response));
}

asio::awaitable<void> Exchange::send_json(std::string body) { return send_text(std::move(body), "application/json"); }

asio::awaitable<void> Exchange::send_text(std::string body, const char* type) {
  HttpResponse r = response(200);
  r.set(http::field::content_type, type);
  r.body() = std::move(body);
  co_await send(std::move(r));
}

asio::awaitable<void> Exchange::send_error(const ApiError& error) { return send(make_error(context, request, error, keep_alive_)); }

// A browser asks whether a page may call. Only pages of allowed origins are told yes; that the header names come from the request is
// harmless, they are checked by nobody here.
asio::awaitable<void> Exchange::send_options() {
  HttpResponse r = response(204);
  const std::string_view target(request.target().data(), request.target().size());
  const std::string methods = methods_of(target.substr(0, target.find('?')));
  r.set(http::field::allow, methods.empty() ? "OPTIONS" : methods + ", OPTIONS");
  if (!cors_origin(context, request).empty()) {
    r.set(http::field::access_control_allow_methods, methods.empty() ? "OPTIONS" : methods + ", OPTIONS");
    const auto asked = request[http::field::access_control_request_headers];
    if (!asked.empty()) r.set(http::field::access_control_allow_headers, asked);
    r.set(http::field::access_control_max_age, "600");
  }
  co_await send(std::move(r));
}

asio::awaitable<void> Exchange::begin_events() {
  if (!chunked(request)) keep_alive_ = false;  // the end of the connection is the end of the answer
  HttpResponse r = response(200);
  r.set(http::field::content_type, "text/event-stream; charset=utf-8");
  r.set(http::field::cache_control, "no-cache");
  if (chunked(request)) r.chunked(true);
  status_ = 200;
  co_await connection_.send_head(std::move(r));
}

asio::awaitable<void> Exchange::events(std::string text) { return connection_.send_text(std::move(text), chunked(request), false); }

asio::awaitable<void> Exchange::end_events() { return connection_.send_text({}, chunked(request), true); }

void Exchange::watch(std::function<void()> gone) {
  connection_.watch(
      [this, gone = std::move(gone)] {
        client_gone = !context.cutting;  // else the server itself wants it to end
        gone();
      },
      [this] { return filler(); });
}

// Before the answer an interim response, which no HTTP/1.0 client knows (RFC 9110, 15.2; of all of them libraries know 100 best); between
// events a comment.
std::string Exchange::filler() const {
  if (!begun()) return chunked(request) ? "HTTP/1.1 100 Continue\r\n\r\n" : "";
  return chunked(request) ? "3\r\n:\n\n\r\n" : ":\n\n";
}

asio::any_io_executor Exchange::executor() { return connection_.executor(); }

}  // namespace fettle
