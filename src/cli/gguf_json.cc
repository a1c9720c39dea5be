#include "cli/gguf_json.h"

#include "format/format.h"

namespace fettle {
namespace {

constexpr size_t kLong = 16, kFirst = 8;

Json value_json(const GgufValue& value, bool full) {
  if (const auto* array = std::get_if<GgufArray>(&value.value)) {
    bool cut = !full && array->size() > kLong;
    Json items = Json::array();
    for (size_t i = 0; i < (cut ? kFirst : array->size()); i++) items.push_back(value_json((*array)[i], full));
    return cut ? Json{{"count", array->size()}, {"first", items}} : items;
  }
  return std::visit(
      [](const auto& v) -> Json {
        if constexpr (std::is_same_v<std::decay_t<decltype(v)>, GgufArray>)
          return nullptr;
        else
          return v;
      },
      value.value);
}

}  // namespace

Json shape_json(const Shape& s) {
  Json shape = Json::array();
  for (int i = 0; i < s.n; i++) shape.push_back(s.dim[i]);
  return shape;
}

Json tensor_json(const NamedTensor& t) {
  return {{"name", t.name}, {"shape", shape_json(t.tensor.shape)}, {"type", t.tensor.format->name}, {"bytes", t.tensor.bytes.size()}};
}

Json metadata_json(const Gguf& file, bool full) {
  Json out = Json::object();
  auto& members = out.get_ref<Json::object_t&>();  // keys are unique: looking for each first would be quadratic
  for (const auto& [key, value] : file.metadata()) members.emplace_back(key, value_json(value, full));
  return out;
}

}  // namespace fettle
