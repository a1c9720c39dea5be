// What a client is told when its request cannot be answered: an HTTP status and OpenAI's error object.
#pragma once
#include <stdexcept>
#include <string>

#include "base/base.h"

namespace fettle {

struct ApiError : std::runtime_error {
  ApiError(unsigned status, const std::string& message, std::string code = {}, std::string param = {})
      : std::runtime_error(message), status(status), code(std::move(code)), param(std::move(param)) {}
  unsigned status;
  std::string code, param;  // empty: null
  int retry_after_s = 0;    // > 0: Retry-After
  std::string allow;        // 405: the methods that would do
};

inline ApiError bad_value(const std::string& param, const std::string& message) {
  return {400, "'" + param + "' " + message, "invalid_value", param};
}
inline ApiError bad_type(const std::string& param, const std::string& wanted) {
  return {400, "'" + param + "' must be " + wanted, "invalid_type", param};
}
inline ApiError unsupported(const std::string& param, const std::string& message) {
  return {400, "'" + param + "' " + message, "unsupported_parameter", param};
}

// {"error": {"message", "type", "param", "code"}}
std::string error_body(const ApiError& error);
// The exception that is in flight, as a client may see it. Call it inside a catch block.
ApiError current_api_error();

}  // namespace fettle
