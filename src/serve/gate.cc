// Sources: RFC 9110 (Host, Authorization), WHATWG Fetch (Origin, CORS).
#include "serve/gate.h"

#include <openssl/crypto.h>

#include <algorithm>
#include <boost/asio/ip/address.hpp>

#include "serve/api_error.h"

namespace fettle {
namespace {

namespace http = boost::beast::http;

std::string_view field(const RequestHead& head, http::field name) {
  const auto value = head[name];
  return {value.data(), value.size()};
}

// "name:8484" -> "name", "[::1]:80" -> "::1"
std::string_view without_port(std::string_view host) {
  if (host.starts_with('[')) {
    const size_t end = host.find(']');
    return end == std::string_view::npos ? std::string_view() : host.substr(1, end - 1);
  }
  const size_t colon = host.rfind(':');
  return colon != std::string_view::npos && host.find(':') == colon ? host.substr(0, colon) : host;
}

bool listed(const std::vector<std::string>& list, std::string_view word) {
  return std::any_of(list.begin(), list.end(), [&](const std::string& entry) { return lower(entry) == lower(word); });
}

}  // namespace

bool is_loopback_name(std::string_view host) {
  const std::string name = lower(without_port(host));
  if (name == "localhost") return true;
  boost::system::error_code error;
  const auto address = boost::asio::ip::make_address(name, error);
  return !error && address.is_loopback();
}

bool equal_in_constant_time(std::string_view a, std::string_view b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

void check_host(const Context& context, const RequestHead& head) {
  const auto count = head.count(http::field::host);
  if (count > 1) throw ApiError(400, "the request has more than one Host header", "bad_request");
  if (count == 0) {
    // browsers, whom this check is about, always send one
    if (head.version() >= 11) throw ApiError(400, "the request has no Host header", "bad_request");
    return;
  }
  const ServeOptions& options = context.options;
  if (!context.loopback && options.allowed_hosts.empty()) return;
  const std::string_view host = field(head, http::field::host), name = without_port(host);
  if (context.loopback && (is_loopback_name(host) || lower(name) == lower(options.host))) return;
  if (listed(options.allowed_hosts, name) || listed(options.allowed_hosts, host)) return;
  throw ApiError(403, "this server does not answer to the name in the Host header", "host_not_allowed");
}

std::string cors_origin(const Context& context, const RequestHead& head) {
  const std::string_view origin = field(head, http::field::origin);
  if (origin.empty()) return {};
  if (listed(context.options.allowed_origins, "*")) return "*";
  return origin != "null" && listed(context.options.allowed_origins, origin) ? std::string(origin) : std::string();
}

// A page of a foreign site can send plain POSTs without asking first; it cannot read the answer, but the model would work for it.
void check_origin(const Context& context, const RequestHead& head) {
  const std::string_view origin = field(head, http::field::origin);
  if (origin.empty() || !cors_origin(context, head).empty()) return;
  // https where something before this server speaks TLS
  const std::string host = lower(field(head, http::field::host)), own = lower(origin);
  if (own == "http://" + host || own == "https://" + host) return;
  throw ApiError(403, "pages of this origin may not call this server", "origin_not_allowed");
}

void check_key(const Context& context, const RequestHead& head) {
  const std::string& key = context.options.api_key;
  if (key.empty()) return;
  const std::string_view given = field(head, http::field::authorization);
  constexpr std::string_view kScheme = "bearer ";
  const bool bearer = given.size() > kScheme.size() && lower(given.substr(0, kScheme.size())) == kScheme;
  if (!bearer) throw ApiError(401, "no API key: send it as 'Authorization: Bearer KEY'", "missing_api_key");
  if (!equal_in_constant_time(trim(given.substr(kScheme.size())), key)) throw ApiError(401, "incorrect API key", "invalid_api_key");
}

}  // namespace fettle
