#include "serve/connection.h"

#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/error.hpp>
#include <boost/beast/http/chunk_encode.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/serializer.hpp>
#include <boost/beast/http/write.hpp>
#include <optional>

namespace fettle {
namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace http = boost::beast::http;
using boost::system::error_code;
using tcp = asio::ip::tcp;

constexpr size_t kMaxPipelinedBytes = 64 << 10;  // read ahead while an answer is being made
constexpr size_t kSliceBytes = 64 << 10;         // sent per deadline
constexpr size_t kLingerBytes = 64 << 20;
constexpr double kLingerSeconds = 3;
constexpr int kProbeSeconds = 15, kProbes = 4;  // TCP's own, when nothing comes

std::chrono::nanoseconds seconds(double s) { return std::chrono::nanoseconds(int64_t(std::max(s, 0.001) * 1e9)); }

// True in a scope.
class During {
 public:
  explicit During(bool& flag) : flag_(flag) { flag_ = true; }
  ~During() { flag_ = false; }
  During(const During&) = delete;
  During& operator=(const During&) = delete;

 private:
  bool& flag_;
};

void probe_when_silent(tcp::socket& socket) {
  error_code ignored;
  socket.set_option(asio::socket_base::keep_alive(true), ignored);
  const int fd = socket.native_handle();
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &kProbeSeconds, sizeof kProbeSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &kProbeSeconds, sizeof kProbeSeconds);
  ::setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &kProbes, sizeof kProbes);
}

std::string_view view(beast::string_view text) { return {text.data(), text.size()}; }

std::string_view path_of(const RequestHead& head) {
  const std::string_view target = view(head.target());
  return target.substr(0, target.find('?'));
}

// What went wrong while reading a request; nullopt: the client went away or fell silent, there is nobody to tell.
std::optional<ApiError> read_problem(error_code error) {
  if (error == http::error::header_limit) return ApiError(431, "the request's head is too large", "header_too_large");
  if (error == http::error::body_limit) return ApiError(413, "the request's body is too large", "body_too_large");
  if (error == http::error::partial_message) return ApiError(400, "the request ends in its middle", "bad_request");
  const bool left = error == http::error::end_of_stream || error.category() != make_error_code(http::error::bad_method).category();
  if (left) return std::nullopt;
  return ApiError(400, "this is not a well-formed HTTP request", "bad_request");
}

void check_encoding(const RequestHead& head) {
  const std::string_view transfer = view(head[http::field::transfer_encoding]);
  if (!transfer.empty() && lower(trim(transfer)) != "chunked")
    throw ApiError(501, "this transfer encoding is not supported: send chunked, or a content length", "unsupported_encoding");
  const std::string_view encoding = view(head[http::field::content_encoding]);
  if (!encoding.empty() && lower(encoding) != "identity")
    throw ApiError(415, "compressed bodies are not supported", "unsupported_encoding");
}

// Paths are shown as far as they can do no harm in a terminal or a log.
std::string loggable(std::string_view path) {
  std::string out;
  for (char c : path.substr(0, 80)) out += c > ' ' && c < 127 && c != '"' && c != '\\' ? c : '?';
  return out;
}

void log_request(const RequestHead& head, unsigned status, double took_s, int prompt_tokens, int completion_tokens) {
  if (talk().verbose < 1) return;
  const std::string tokens = prompt_tokens ? fmt::format("  {}+{} tokens", prompt_tokens, completion_tokens) : std::string();
  say(fmt::format("{} {} {}  {:.1f} ms{}", loggable(view(head.method_string())), loggable(path_of(head)), status, took_s * 1e3, tokens));
}

}  // namespace

Connection::Connection(tcp::socket socket, Context& context) : context_(context), stream_(std::move(socket)), idle_since_(now_seconds()) {
  error_code ignored;
  stream_.socket().set_option(tcp::no_delay(true), ignored);
  stream_.socket().non_blocking(true, ignored);
  probe_when_silent(stream_.socket());
}

void Connection::start(std::function<void()> ended) {
  context_.metrics.connections++;
  asio::co_spawn(
      stream_.get_executor(), [self = shared_from_this()] { return self->run(); },
      [self = shared_from_this(), ended = std::move(ended)](const std::exception_ptr&) {
        self->context_.metrics.connections--;
        ended();
      });
}

void Connection::shut(Shut how) {
  leaving_ = true;
  asio::post(stream_.get_executor(), [self = shared_from_this(), how] {
    self->shut_ = true;
    if (how == Shut::now) {
      self->stream_.close();
    } else if (how == Shut::idle && self->idle_since_ >= 0) {
      self->stream_.cancel();
    }
    if (how != Shut::idle && self->gone_) std::exchange(self->gone_, nullptr)();
  });
}

asio::awaitable<void> Connection::run() {
  try {
    bool more = true;
    while (more && !shut_) {
      idle_since_ = now_seconds();
      more = co_await one_request();
      fresh_ = false;
    }
  } catch (const std::exception&) {
    // the client is gone, or memory is; either way only this connection ends
  }
  unwatch();
  stream_.close();
}

asio::awaitable<bool> Connection::first_bytes() {
  if (buffer_.size() > 0) co_return true;
  stream_.expires_after(seconds(fresh_ ? context_.options.read_timeout_s : context_.options.idle_timeout_s));
  error_code error;
  const size_t n = co_await stream_.async_read_some(buffer_.prepare(4096), asio::redirect_error(asio::use_awaitable, error));
  buffer_.commit(n);
  co_return !error && !shut_;
}

asio::awaitable<bool> Connection::one_request() {
  if (!co_await first_bytes()) co_return false;
  http::request_parser<http::string_body> parser;
  parser.header_limit(context_.options.max_header_bytes);
  parser.body_limit(context_.options.max_body_bytes);
  const Route* route = nullptr;
  std::string rest;
  std::optional<ApiError> problem;
  error_code error;
  stream_.expires_after(seconds(context_.options.read_timeout_s));
  co_await http::async_read_header(stream_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
  if (error) {
    problem = read_problem(error);
    if (!problem) co_return false;
  } else {
    const RequestHead& head = parser.get();
    try {
      check_host(context_, head);
      if (context_.draining) throw ApiError(503, "the server is shutting down", "shutting_down");
      if (head.method() != http::verb::options) {
        check_origin(context_, head);
        route = &find_route(view(head.method_string()), path_of(head), rest);
        if (!route->open) check_key(context_, head);
        check_encoding(head);
      }
    } catch (...) {
      problem = current_api_error();
    }
  }
  if (!problem && !parser.is_done()) {
    stream_.expires_after(seconds(context_.options.read_timeout_s));
    if (lower(view(parser.get()[http::field::expect])) == "100-continue") {
      co_await send_text("HTTP/1.1 100 Continue\r\n\r\n", false, false);
      stream_.expires_after(seconds(context_.options.read_timeout_s));
    }
    co_await http::async_read(stream_, buffer_, parser, asio::redirect_error(asio::use_awaitable, error));
    if (error) {
      problem = read_problem(error);
      if (!problem) co_return false;
    }
  }
  idle_since_ = -1;
  if (problem) {
    co_await refuse(*problem, parser.get());
    co_return false;
  }
  const HttpRequest request = parser.release();
  const bool keep = co_await answer(request, route, rest);
  if (!keep) co_await linger();
  co_return keep;
}

asio::awaitable<bool> Connection::answer(const HttpRequest& request, const Route* route, const std::string& rest) {
  Exchange exchange(*this, context_, request, rest);
  std::optional<ApiError> problem;
  bool broken = false;
  try {
    if (route) {
      co_await route->handle(exchange);
    } else {
      co_await exchange.send_options();
    }
  } catch (const boost::system::system_error&) {
    broken = true;  // the client is gone or does not read
  } catch (...) {
    problem = current_api_error();
  }
  unwatch();
  if (problem && !broken && !exchange.client_gone) {
    broken = exchange.begun();
    if (!broken) co_await exchange.send_error(*problem);
  }
  const double took_s = now_seconds() - exchange.started;
  if (exchange.client_gone) context_.metrics.disconnects++;
  context_.metrics.finished(route ? route->path : "OPTIONS", exchange.begun() ? exchange.status() : 499, took_s);
  log_request(request, exchange.begun() ? exchange.status() : 499, took_s, exchange.prompt_tokens, exchange.completion_tokens);
  if (broken || exchange.client_gone) stream_.close();
  co_return exchange.keeps_alive() && !broken && !exchange.client_gone;
}

// The request was not read to its end, so its connection can carry no other.
asio::awaitable<void> Connection::refuse(ApiError error, RequestHead head) {
  co_await send(make_error(context_, head, error, false));
  context_.metrics.finished("refused", error.status, 0);
  log_request(head, error.status, 0, 0, 0);
  co_await linger();
}

// Closing with unread bytes resets the connection, and the reset may overtake the answer: read on for a while.
asio::awaitable<void> Connection::linger() {
  error_code error;
  stream_.socket().shutdown(tcp::socket::shutdown_send, error);
  stream_.expires_after(seconds(kLingerSeconds));
  idle_since_ = now_seconds();
  buffer_.clear();
  for (size_t total = 0; !error && total < kLingerBytes && !shut_;) {
    total += co_await stream_.async_read_some(buffer_.prepare(kSliceBytes), asio::redirect_error(asio::use_awaitable, error));
  }
}

asio::awaitable<void> Connection::send(HttpResponse response) {
  const During during(writing_);
  http::response_serializer<http::string_body> serializer(response);
  while (!serializer.is_done()) {
    stream_.expires_after(seconds(context_.options.write_timeout_s));
    co_await http::async_write_some(stream_, serializer, asio::use_awaitable);
  }
}

asio::awaitable<void> Connection::send_head(HttpResponse response) {
  const During during(writing_);
  http::response_serializer<http::string_body> serializer(response);
  stream_.expires_after(seconds(context_.options.write_timeout_s));
  co_await http::async_write_header(stream_, serializer, asio::use_awaitable);
}

asio::awaitable<void> Connection::send_text(std::string text, bool chunked, bool last) {
  const During during(writing_);
  std::string_view rest = text;
  while (!rest.empty()) {
    const std::string_view slice = rest.substr(0, kSliceBytes);
    rest.remove_prefix(slice.size());
    stream_.expires_after(seconds(context_.options.write_timeout_s));
    const asio::const_buffer bytes(slice.data(), slice.size());
    if (chunked) {
      co_await asio::async_write(stream_, http::make_chunk(bytes), asio::use_awaitable);
    } else {
      co_await asio::async_write(stream_, bytes, asio::use_awaitable);
    }
  }
  if (!last || !chunked) co_return;
  stream_.expires_after(seconds(context_.options.write_timeout_s));
  co_await asio::async_write(stream_, http::make_chunk_last(), asio::use_awaitable);
}

void Connection::watch(std::function<void()> gone, std::function<std::string()> filler) {
  gone_ = std::move(gone);
  filler_ = std::move(filler);
  epoch_++;
  if (context_.cutting) return std::exchange(gone_, nullptr)();
  wait_readable();
}

void Connection::unwatch() {
  gone_ = nullptr;
  filler_ = nullptr;
  epoch_++;
  unwatch_.emit(asio::cancellation_type::all);
}

// A client that has sent a lot ahead, or sends no more, is watched for errors only.
void Connection::wait_readable() {
  const bool reads = !half_closed_ && buffer_.size() < kMaxPipelinedBytes;
  const auto handler = [self = shared_from_this(), epoch = epoch_](error_code error) {
    if (epoch == self->epoch_) self->on_readable(error);
  };
  stream_.socket().async_wait(reads ? tcp::socket::wait_read : tcp::socket::wait_error,
                              asio::bind_cancellation_slot(unwatch_.slot(), handler));
}

// Readable means: the next request has begun to arrive, or the client sends no more, or it has left.
void Connection::on_readable(error_code error) {
  if (!error && !half_closed_ && buffer_.size() < kMaxPipelinedBytes) {
    buffer_.commit(stream_.socket().read_some(buffer_.prepare(4096), error));
    if (!error || error == asio::error::would_block || error == asio::error::try_again) return wait_readable();
    if (error == asio::error::eof) {
      half_closed_ = true;
      send_filler();
      return wait_readable();
    }
  }
  if (gone_) std::exchange(gone_, nullptr)();
}

// What is being written does as well. A failure shows in wait_readable.
void Connection::send_filler() {
  const std::string filler = writing_ || !filler_ ? std::string() : filler_();
  error_code ignored;
  if (!filler.empty()) stream_.socket().write_some(asio::buffer(filler), ignored);
}

}  // namespace fettle
