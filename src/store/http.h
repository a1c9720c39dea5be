// One HTTP GET over libcurl: redirects followed by hand, so that a token never leaves the host it was meant for, and every failure sorted
// into what may pass and what will not. Private to store.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/base.h"

namespace fettle {

struct HttpReply {
  long status = 0;
  std::string url;                             // that answered at last
  std::map<std::string, std::string> headers;  // names in lower case
  std::map<std::string, std::string> asked;    // headers of the first answer, before redirects
  std::string header(const std::string& name) const;
};

struct HttpRequest {
  std::string url;
  std::string place;                                        // for errors: the source as the user wrote it
  std::string token;                                        // sent as a bearer to the host of `url` only
  std::vector<std::string> headers;                         // "Range: bytes=5-"
  std::function<void(const HttpReply&)> on_head;            // of a final answer below 300, before its body
  std::function<void(std::span<const std::byte>)> on_body;  // of such an answer
  std::function<void()> on_idle;                            // about once a second at least
  std::function<bool(const HttpReply&)> accepts;            // other statuses that are no error (416); their bodies are dropped
};

// `tries`: how often such a failure may happen in a row before one gives up; 1: at once.
struct HttpError : Error {
  HttpError(Error error, int tries, double wait_s = 0) : Error(std::move(error)), tries(tries), wait_s(wait_s) {}
  int tries;
  double wait_s;  // the server's wish (Retry-After), 0: none
};

// Throws HttpError, and what the callbacks throw.
HttpReply http_get(const HttpRequest& request);
// The body as text, at most `limit` bytes.
std::string http_text(HttpRequest request, size_t limit);

struct Retry {
  double first_delay_s = 0.5;  // doubled each time
  int most = 5;                // attempts in a row
};
// Runs `attempt` until it returns or fails for good. An attempt after which got() is larger than before starts the count of failures anew.
// While waiting, `idle` is called and Ctrl-C obeyed.
void with_retries(const Retry& retry, const std::function<void()>& idle, const std::function<void()>& attempt,
                  const std::function<uint64_t()>& got);

std::string url_escape(std::string_view segment);

}  // namespace fettle
