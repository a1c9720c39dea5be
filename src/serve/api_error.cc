#include "serve/api_error.h"

#include "serve/json_door.h"

namespace fettle {
namespace {

const char* type_of(unsigned status) {
  if (status >= 500) return "server_error";
  if (status == 429) return "rate_limit_error";
  return "invalid_request_error";
}

Json null_if_empty(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

}  // namespace

std::string error_body(const ApiError& error) {
  const Json inner = {{"message", error.what()},
                      {"type", type_of(error.status)},
                      {"param", null_if_empty(error.param)},
                      {"code", null_if_empty(error.code)}};
  return dump(Json{{"error", inner}});
}

ApiError current_api_error() {
  try {
    throw;
  } catch (const ApiError& error) {
    return error;
  } catch (const Error& error) {
    // the place is of use to whoever runs the server, not to its clients
    if (error.code == Exit::refused) return {400, error.what(), "invalid_request"};
    return {500, "the request failed", "internal_error"};
  } catch (const std::bad_alloc&) {
    return {503, "not enough memory for this request", "overloaded"};
  } catch (...) {
    return {500, "the request failed", "internal_error"};
  }
}

}  // namespace fettle
