#include "serve/context.h"

#include <ctime>
#include <random>

#include "serve/api_error.h"

namespace fettle {

Served& Context::model(const std::string* name) const {
  if (!name && models.size() == 1) return *models.front();
  std::string names;
  for (const auto& served : models) {
    if (name && (served->name == *name || (!name->empty() && served->label == *name))) return *served;
    names += (names.empty() ? "" : ", ") + served->name;
  }
  if (!name) throw ApiError(400, "you must name a model: " + names, "missing_required_parameter", "model");
  // what the client sent is told back clipped: names may be megabytes
  const std::string shown = name->size() > 64 ? name->substr(0, 64) + "..." : *name;
  throw ApiError(404, "the model '" + shown + "' does not exist here; served: " + names, "model_not_found", "model");
}

Served& Context::text_model(const std::string* name) const {
  Served& served = model(name);
  if (!served.engine->model().config.causal)
    throw ApiError(400, "the model '" + served.name + "' is an encoder: it makes embeddings (POST /v1/embeddings) and writes no text",
                   "unsupported_model", "model");
  return served;
}

int64_t unix_time() { return int64_t(std::time(nullptr)); }

std::string random_id(const char* prefix) {
  constexpr char kLetters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
  thread_local std::random_device device;
  std::string id = prefix;
  for (int i = 0; i < 24; i++) id += kLetters[device() % 62];
  return id;
}

}  // namespace fettle
