// What a refusal says. For tests only.
#pragma once
#include <functional>
#include <string>

#include "base/error.h"

namespace fettle {

// Text and hint of the Error that `body` throws.
inline std::string message(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& e) {
    return e.text() + " | " + e.hint;
  }
  return "no error";
}

}  // namespace fettle
