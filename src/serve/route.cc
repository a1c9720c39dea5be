#include "serve/route.h"

#include "serve/api_error.h"

namespace fettle {

#define X(name) extern const Route name##_route;
#include "routes.inc"
#undef X

std::span<const Route* const> routes() {
  static constexpr const Route* kRoutes[] = {
#define X(name) &name##_route,
#include "routes.inc"
#undef X
  };
  return kRoutes;
}

namespace {

bool matches(const Route& route, std::string_view path) {
  const std::string_view own = route.path;
  return route.rest ? path.size() > own.size() && path.starts_with(own) : path == own;
}

int hex(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  return -1;
}

}  // namespace

std::string percent_decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); i++) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && hex(text[i + 1]) >= 0 && hex(text[i + 2]) >= 0;
    out += escape ? char(hex(text[i + 1]) << 4 | hex(text[i + 2])) : text[i];
    if (escape) i += 2;
  }
  return out;
}

std::string methods_of(std::string_view path) {
  std::string methods;
  for (const Route* route : routes()) {
    if (matches(*route, path)) methods += (methods.empty() ? "" : ", ") + std::string(route->method);
  }
  return methods;
}

const Route& find_route(std::string_view method, std::string_view path, std::string& rest) {
  for (const Route* route : routes()) {
    if (method != route->method || !matches(*route, path)) continue;
    if (route->rest) rest = percent_decoded(path.substr(std::string_view(route->path).size()));
    return *route;
  }
  const std::string methods = methods_of(path);
  if (methods.empty()) throw ApiError(404, "no such path here", "not_found");
  ApiError error(405, "this path does not take this method; it takes " + methods, "method_not_allowed");
  error.allow = methods;
  throw error;
}

}  // namespace fettle
