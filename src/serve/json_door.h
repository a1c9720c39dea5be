// JSON from outside: limits before parsing, and typed reading of fields with errors that name them as OpenAI's do.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "serve/api_error.h"

namespace fettle {

using Json = nlohmann::ordered_json;

constexpr int kMaxJsonDepth = 64;
constexpr size_t kMaxObjectKeys = 512;  // ordered_json looks keys up one by one: many keys would take quadratic time
constexpr size_t kMaxJsonValues = 1 << 20;

// An object. Throws ApiError 400 for broken, deep, or swollen JSON, and for anything but an object.
Json parse_object(std::string_view text);
// One line; broken UTF-8 becomes U+FFFD.
std::string dump(const Json& json);

// The fields of one JSON object. A missing field and null are the same: absent. All throw ApiError 400 naming the field.
class Fields {
 public:
  // path: how errors call the object ("stream_options"); empty: the request itself. object must outlive this.
  explicit Fields(const Json& object, std::string path = {}) : object_(object), path_(std::move(path)) {}
  const Json* find(const char* name) const;  // nullptr: absent
  std::string name_of(const char* name) const { return path_.empty() ? name : path_ + "." + name; }
  std::optional<bool> boolean(const char* name) const;
  std::optional<std::string> string(const char* name) const;
  std::optional<double> number(const char* name, double low, double high) const;
  // Whole numbers; 16.0 is one. Larger ones than 64 bits hold are out of range.
  std::optional<int64_t> integer(const char* name, int64_t low, int64_t high) const;
  const Json* object(const char* name) const;  // nullptr: absent

 private:
  const Json& object_;
  std::string path_;
};

}  // namespace fettle
