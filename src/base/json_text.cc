// Parsing JSON that others wrote. The library's own recursion is bounded by the depth limit; duplicate keys: the last one holds.
#include "base/json_text.h"

#include "base/error.h"

namespace fettle {
namespace {
constexpr int kMaxDepth = 64;
}

nlohmann::json parse_json(std::string_view text, const std::string& place) {
  using Json = nlohmann::json;
  auto shallow = [&](int depth, Json::parse_event_t, Json&) {
    if (depth > kMaxDepth) throw refused(place, "JSON nested deeper than " + std::to_string(kMaxDepth));
    return true;
  };
  try {
    return Json::parse(text.begin(), text.end(), shallow);
  } catch (const Json::parse_error& error) {
    throw refused(place + ": byte " + std::to_string(error.byte), "is not valid JSON");
  } catch (const Json::out_of_range&) {  // 1e999
    throw refused(place, "holds a number that is too large");
  }
}

std::string printable(std::string_view text, size_t limit) {
  std::string out;
  for (char c : text.substr(0, limit)) out += (uint8_t(c) < 32 || uint8_t(c) >= 127) ? '?' : c;
  return text.size() > limit ? out + "..." : out;
}

}  // namespace fettle
