// config.json of a Hugging Face folder: typed access.
#include <cmath>
#include <nlohmann/json.hpp>

#include "model/hf.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

// nullptr: absent or null.
const Json* value_of(const Json& config, const char* key) {
  const auto it = config.is_object() ? config.find(key) : config.end();
  return !config.is_object() || it == config.end() || it->is_null() ? nullptr : &*it;
}

// The opener of the folder adds the place.
[[noreturn]] void wrong(const char* key, const char* wanted) { throw refused("", std::string(key) + " is not " + wanted); }

}  // namespace

std::optional<int64_t> hf_integer(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  // some writers put 8.0
  if (!v->is_number() || !(v->get<double>() >= 0 && v->get<double>() <= double(INT32_MAX)) ||
      std::floor(v->get<double>()) != v->get<double>())
    wrong(key, "an integer from 0 to 2^31 - 1");
  return int64_t(v->get<double>());
}

std::optional<double> hf_real(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  if (!v->is_number() || !std::isfinite(v->get<double>())) wrong(key, "a finite number");
  return v->get<double>();
}

std::optional<bool> hf_boolean(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  if (!v->is_boolean()) wrong(key, "true or false");
  return v->get<bool>();
}

std::optional<std::string> hf_string(const Json& config, const char* key) {
  const Json* v = value_of(config, key);
  if (!v) return std::nullopt;
  if (!v->is_string()) wrong(key, "a text");
  return v->get<std::string>();
}

}  // namespace fettle
