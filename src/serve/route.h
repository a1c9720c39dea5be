// What a route is. One file in route/ defines one: `const Route NAME_route`.
#pragma once
#include <boost/asio/awaitable.hpp>
#include <span>
#include <string>
#include <string_view>

namespace fettle {

class Exchange;

struct Route {
  const char* method;
  const char* path;  // "/v1/models/" with rest: what follows is Exchange::rest, percent-decoded
  bool rest = false;
  bool open = false;  // asks for no key
  // Answers through the exchange. May throw ApiError or Error until it has begun to send.
  boost::asio::awaitable<void> (*handle)(Exchange& exchange) = nullptr;
};

std::span<const Route* const> routes();

// The route of a request, `rest` filled in. Throws ApiError 404, or 405 naming the methods that would do.
const Route& find_route(std::string_view method, std::string_view path, std::string& rest);
// The methods that `path` knows, "GET, POST"; empty: no such path.
std::string methods_of(std::string_view path);
// nullopt-free: broken escapes stay as they are.
std::string percent_decoded(std::string_view text);

}  // namespace fettle
