// libcurl behind a narrow door. Answers with redirects and errors are kept away from the caller's sink; exceptions of callbacks travel
// around C code as exception_ptr. Sources: libcurl's manual; RFC 9110 for statuses and Retry-After (seconds only). Not handled: upload,
// cookies.
#include "store/http.h"

#include <curl/curl.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <memory>
#include <thread>

#include "base/json_text.h"

namespace fettle {
namespace {

constexpr int kMaxRedirects = 8;
constexpr size_t kMaxHeaderBytes = 256u << 10, kMaxErrorPage = 64u << 10;
constexpr long kConnectSeconds = 15, kStallSeconds = 30;
constexpr double kMaxWait = 60;

struct Origin {
  std::string scheme, host, port;
  bool operator==(const Origin&) const = default;
  bool loopback() const { return host == "localhost" || host == "[::1]" || host == "::1" || host.starts_with("127."); }
};

using Url = std::unique_ptr<CURLU, void (*)(CURLU*)>;

std::string part_of(CURLU* url, CURLUPart part, unsigned flags = 0) {
  char* text = nullptr;
  if (curl_url_get(url, part, &text, flags) != CURLUE_OK) return "";
  std::string result = text;
  curl_free(text);
  return result;
}

// `relative` seen from `base` ("" for none); Error{refused} when it is no http or https URL.
std::string resolve(const std::string& base, const std::string& relative, const std::string& place, Origin& origin) {
  Url url(curl_url(), curl_url_cleanup);
  bool good = url && (base.empty() || curl_url_set(url.get(), CURLUPART_URL, base.c_str(), 0) == CURLUE_OK) &&
              curl_url_set(url.get(), CURLUPART_URL, relative.c_str(), 0) == CURLUE_OK;
  if (good)
    origin = {part_of(url.get(), CURLUPART_SCHEME), lower(part_of(url.get(), CURLUPART_HOST)),
              part_of(url.get(), CURLUPART_PORT, CURLU_DEFAULT_PORT)};
  if (!good || (origin.scheme != "https" && origin.scheme != "http"))
    throw refused(place, "\"" + printable(relative) + "\" is no http or https address");
  if (!part_of(url.get(), CURLUPART_USER).empty()) throw refused(place, "an address with a user name in it is not supported");
  return part_of(url.get(), CURLUPART_URL);
}

// What libcurl's callbacks see of one exchange.
struct Exchange {
  const HttpRequest& request;
  HttpReply& reply;
  CURL* curl;
  std::exception_ptr error;
  size_t header_bytes = 0, dropped = 0;
  bool told = false;

  bool wanted() const { return reply.status >= 200 && reply.status < 300; }
  void head() {
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
    if (told || !wanted()) return;
    told = true;
    if (request.on_head) request.on_head(reply);
  }
  template <class Work>
  bool guarded(Work&& work) {
    try {
      work();
      return true;
    } catch (...) {
      error = std::current_exception();
      return false;
    }
  }
};

size_t on_header(char* data, size_t, size_t n, void* user) {
  auto& x = *static_cast<Exchange*>(user);
  std::string_view line(data, n);
  if ((x.header_bytes += n) > kMaxHeaderBytes) return 0;
  if (line.starts_with("HTTP/")) x.reply.headers.clear();  // an interim answer or a proxy's came before
  size_t colon = line.find(':');
  if (colon != line.npos) x.reply.headers[lower(trim(line.substr(0, colon)))] = std::string(trim(line.substr(colon + 1)));
  return n;
}

size_t on_data(char* data, size_t, size_t n, void* user) {
  auto& x = *static_cast<Exchange*>(user);
  bool fine = x.guarded([&] {
    x.head();
    if (x.wanted() && x.request.on_body) x.request.on_body({reinterpret_cast<const std::byte*>(data), n});
  });
  // an error page is not worth reading to its end
  if (fine && !x.wanted() && (x.dropped += n) > kMaxErrorPage) return 0;
  return fine ? n : 0;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& x = *static_cast<Exchange*>(user);
  return x.guarded([&] {
    stop_if_interrupted();
    if (x.request.on_idle) x.request.on_idle();
  })
             ? 0
             : 1;
}

HttpError transport_error(CURLcode code, const std::string& place, const std::string& host, const char* detail) {
  std::string why = *detail ? detail : curl_easy_strerror(code);
  switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return {failed(place, "cannot find " + host + " (no network?)", "connect this machine, or use a model that is already here"), 2};
    case CURLE_COULDNT_CONNECT:
      return {failed(place, "cannot connect to " + host + ": " + why, "connect this machine, or use a model that is already here"), 2};
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_ISSUER_ERROR:
      return {failed(place, "the certificate of " + host + " is not trusted: " + why,
                     "behind a company's proxy, name its certificates with SSL_CERT_FILE"),
              1};
    case CURLE_OPERATION_TIMEDOUT:
      return {failed(place, host + " does not answer"), 5};
    case CURLE_PARTIAL_FILE:
      return {failed(place, "the connection to " + host + " ended before the file did"), 5};
    case CURLE_RECV_ERROR:
    case CURLE_SEND_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_HTTP2:
    case CURLE_HTTP2_STREAM:
    case CURLE_SSL_CONNECT_ERROR:
      return {failed(place, "the connection to " + host + " broke: " + why), 5};
    default:
      return {failed(place, "the transfer from " + host + " failed: " + why), 1};
  }
}

double retry_after(const HttpReply& reply) {
  std::string text = reply.header("retry-after");
  int seconds = 0;
  std::from_chars(text.data(), text.data() + text.size(), seconds);
  return std::clamp(double(seconds), 0.0, kMaxWait);
}

HttpError status_error(const HttpReply& reply, const HttpRequest& request, const std::string& host) {
  std::string said = printable(reply.header("x-error-message"), 200), code = " (status " + std::to_string(reply.status) + ")";
  if (!said.empty()) said = ": " + said;
  const std::string& place = request.place;
  switch (reply.status) {
    case 401:
      return {failed(place, host + (request.token.empty() ? " asks for a login" : " does not accept the token") + code + said,
                     request.token.empty() ? "the name may be misspelt; for a private model set HF_TOKEN to your token" : "check HF_TOKEN"),
              1};
    case 403:
      return {failed(place, host + " refuses access" + code + said,
                     "accept the model's terms on its page, and set HF_TOKEN to a token that may read it"),
              1};
    case 404:
    case 410:
      return {failed(place, host + " has no such model, revision or file" + code + said, "check the spelling; names are case-sensitive"),
              1};
    case 416:
      return {failed(place, host + " cannot send that part of the file" + code), 1};
    case 429:
      return {failed(place, host + " asks for fewer requests" + code + said, "wait a while; signed-in users (HF_TOKEN) are allowed more"),
              5, retry_after(reply)};
    default:
      break;
  }
  if (reply.status == 408 || reply.status >= 500)
    return {failed(place, host + " is in trouble" + code + said, "try again later"), 5, retry_after(reply)};
  return {failed(place, host + " gave an unexpected answer" + code + said), 1};
}

void set_options(CURL* curl, Exchange& x, const std::string& url) {
  auto set = [&](CURLoption option, auto value) { CHECK(curl_easy_setopt(curl, option, value) == CURLE_OK, "libcurl knows the option"); };
  set(CURLOPT_URL, url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_USERAGENT, "fettle/" FETTLE_VERSION);
  set(CURLOPT_CONNECTTIMEOUT, kConnectSeconds);
  set(CURLOPT_LOW_SPEED_LIMIT, 1L);
  set(CURLOPT_LOW_SPEED_TIME, kStallSeconds);
  set(CURLOPT_HEADERFUNCTION, on_header);
  set(CURLOPT_HEADERDATA, &x);
  set(CURLOPT_WRITEFUNCTION, on_data);
  set(CURLOPT_WRITEDATA, &x);
  set(CURLOPT_NOPROGRESS, 0L);
  set(CURLOPT_XFERINFOFUNCTION, on_progress);
  set(CURLOPT_XFERINFODATA, &x);
  if (const char* file = std::getenv("SSL_CERT_FILE"); file && *file) set(CURLOPT_CAINFO, file);
}

// One exchange with one host. False: it was a redirect, `location` says where to.
bool exchange(const HttpRequest& request, const std::string& url, const Origin& origin, bool with_token, HttpReply& reply,
              std::string& location) {
  std::unique_ptr<CURL, void (*)(CURL*)> curl(curl_easy_init(), curl_easy_cleanup);
  if (!curl) throw failed(request.place, "no memory for a connection");
  reply.status = 0;
  reply.url = url;
  reply.headers.clear();
  Exchange x{request, reply, curl.get(), {}};
  set_options(curl.get(), x, url);
  char detail[CURL_ERROR_SIZE] = "";
  curl_easy_setopt(curl.get(), CURLOPT_ERRORBUFFER, detail);
  // a compressed transfer could not be resumed, and weights do not shrink
  curl_slist* list = curl_slist_append(nullptr, "Accept-Encoding: identity");
  for (const auto& header : request.headers) list = curl_slist_append(list, header.c_str());
  if (with_token) list = curl_slist_append(list, ("Authorization: Bearer " + request.token).c_str());
  std::unique_ptr<curl_slist, void (*)(curl_slist*)> headers(list, curl_slist_free_all);
  curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, list);
  CURLcode code = curl_easy_perform(curl.get());
  if (x.error) std::rethrow_exception(x.error);
  curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &reply.status);
  location = reply.header("location");
  bool redirect = reply.status >= 300 && reply.status < 400 && !location.empty();
  if (redirect) return false;
  // a page of an error that is cut short is still that error
  if (code != CURLE_OK && reply.status < 400) throw transport_error(code, request.place, origin.host, detail);
  if (x.wanted())
    x.head();
  else if (!request.accepts || !request.accepts(reply))
    throw status_error(reply, request, origin.host);
  return true;
}

}  // namespace

std::string HttpReply::header(const std::string& name) const {
  auto it = headers.find(name);
  return it == headers.end() ? "" : it->second;
}

HttpReply http_get(const HttpRequest& request) {
  static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
  CHECK(ready == CURLE_OK, "libcurl starts");
  for (const auto& text : {request.token, request.url})
    if (std::any_of(text.begin(), text.end(), [](char c) { return uint8_t(c) <= 32 || c == 127; }))
      throw refused(request.place, "the address or the token holds blanks or control characters");
  Origin first, origin;
  std::string url = resolve("", request.url, request.place, first), location;
  origin = first;
  HttpReply reply;
  for (int hop = 0; hop <= kMaxRedirects; hop++) {
    bool with_token = !request.token.empty() && origin == first && (origin.scheme == "https" || origin.loopback());
    bool done = exchange(request, url, origin, with_token, reply, location);
    if (hop == 0) reply.asked = reply.headers;
    if (done) return reply;
    std::string scheme = origin.scheme;
    url = resolve(url, location, request.place, origin);
    if (scheme == "https" && origin.scheme != "https")
      throw refused(request.place, "a redirect leads from https to plain http; not followed");
  }
  throw HttpError(failed(request.place, first.host + " redirects without end"), 1);
}

std::string http_text(HttpRequest request, size_t limit) {
  std::string text;
  request.on_head = [&](const HttpReply&) { text.clear(); };
  request.on_body = [&](std::span<const std::byte> bytes) {
    if (bytes.size() > limit - text.size()) throw refused(request.place, "the answer is longer than " + format_bytes(double(limit)));
    text.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  };
  http_get(request);
  return text;
}

void with_retries(const Retry& retry, const std::function<void()>& idle, const std::function<void()>& attempt,
                  const std::function<uint64_t()>& got) {
  for (int failures = 0;;) {
    uint64_t before = got ? got() : 0;
    try {
      return attempt();
    } catch (const HttpError& error) {
      if (got && got() > before) failures = 0;
      if (++failures >= std::min(error.tries, retry.most)) throw;
      double wait = std::max(error.wait_s, retry.first_delay_s * double(1 << (failures - 1)));
      for (double end = now_seconds() + wait; now_seconds() < end;) {
        stop_if_interrupted();
        if (idle) idle();
        std::this_thread::sleep_for(std::chrono::duration<double>(std::clamp(end - now_seconds(), 0.0, 0.05)));
      }
    }
  }
}

std::string url_escape(std::string_view segment) {
  std::string out;
  for (char c : segment) {
    bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                 std::string_view("-._~").find(c) != std::string_view::npos;
    if (plain) {
      out += c;
    } else {
      constexpr char kHex[] = "0123456789ABCDEF";
      out += {'%', kHex[uint8_t(c) >> 4], kHex[uint8_t(c) & 15]};
    }
  }
  return out;
}

}  // namespace fettle
