#include "serve/json_door.h"

#include <cmath>

namespace fettle {
namespace {

ApiError bad_json(const std::string& message) { return {400, message, "invalid_json"}; }

// The parser recurses nowhere but builds what it is told to; this bounds what it can be told. It need not know JSON's grammar: on text that
// is no JSON it counts something, and the parser refuses the text.
class Guard {
 public:
  void check(std::string_view text) {
    for (size_t i = 0; i < text.size(); i++) {
      const char c = text[i];
      if (c == '"') {
        i = end_of_string(text, i);
      } else if (c == '{' || c == '[') {
        open(c == '{');
      } else if (c == '}' || c == ']') {
        if (!levels_.empty()) levels_.pop_back();
      } else if (c == ',') {
        separate();
      }
    }
  }

 private:
  struct Level {
    bool object;
    size_t commas = 0;
  };
  static size_t end_of_string(std::string_view text, size_t i) {
    for (i++; i < text.size() && text[i] != '"'; i++) {
      if (text[i] == '\\') i++;
    }
    return i;
  }
  void count() {
    if (++values_ > kMaxJsonValues) throw bad_json("the JSON has more than " + std::to_string(kMaxJsonValues) + " values");
  }
  void open(bool object) {
    count();
    if (levels_.size() >= size_t(kMaxJsonDepth)) {
      throw bad_json("the JSON is nested more than " + std::to_string(kMaxJsonDepth) + " levels deep");
    }
    levels_.push_back({object});
  }
  void separate() {
    count();
    if (levels_.empty()) return;
    Level& level = levels_.back();
    if (++level.commas >= kMaxObjectKeys && level.object) {
      throw bad_json("an object of the JSON has more than " + std::to_string(kMaxObjectKeys) + " keys");
    }
  }
  std::vector<Level> levels_;
  size_t values_ = 0;
};

bool whole(double x) { return std::isfinite(x) && x == std::floor(x) && std::abs(x) < 0x1p53; }

std::string range_words(double low, double high) {
  const auto word = [](double x) { return std::abs(x) < 1e15 && x == std::floor(x) ? std::to_string(int64_t(x)) : std::to_string(x); };
  if (high > 1e15) return "must be at least " + word(low);
  return "must lie between " + word(low) + " and " + word(high);
}

}  // namespace

Json parse_object(std::string_view text) {
  Guard().check(text);
  Json json;
  try {
    json = Json::parse(text);
  } catch (const nlohmann::json::parse_error& error) {
    throw bad_json("the body is not JSON: error at byte " + std::to_string(error.byte));
  } catch (const nlohmann::json::exception&) {
    throw bad_json("the body is not JSON: a number is out of range");
  }
  if (!json.is_object()) throw bad_json("the body must be a JSON object");
  return json;
}

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

const Json* Fields::find(const char* name) const {
  const auto it = object_.find(name);
  return it == object_.end() || it->is_null() ? nullptr : &*it;
}

std::optional<bool> Fields::boolean(const char* name) const {
  const Json* field = find(name);
  if (!field) return std::nullopt;
  if (!field->is_boolean()) throw bad_type(name_of(name), "a boolean");
  return field->get<bool>();
}

std::optional<std::string> Fields::string(const char* name) const {
  const Json* field = find(name);
  if (!field) return std::nullopt;
  if (!field->is_string()) throw bad_type(name_of(name), "a string");
  return field->get<std::string>();
}

std::optional<double> Fields::number(const char* name, double low, double high) const {
  const Json* field = find(name);
  if (!field) return std::nullopt;
  if (!field->is_number()) throw bad_type(name_of(name), "a number");
  const double value = field->get<double>();
  if (!(value >= low && value <= high)) throw bad_value(name_of(name), range_words(low, high));
  return value;
}

std::optional<int64_t> Fields::integer(const char* name, int64_t low, int64_t high) const {
  const Json* field = find(name);
  if (!field) return std::nullopt;
  if (!field->is_number()) throw bad_type(name_of(name), "an integer");
  int64_t value = 0;
  bool fits = true;
  if (field->is_number_unsigned()) {
    fits = field->get<uint64_t>() <= uint64_t(INT64_MAX);
    value = fits ? field->get<int64_t>() : 0;
  } else if (field->is_number_integer()) {
    value = field->get<int64_t>();
  } else if (whole(field->get<double>())) {
    value = int64_t(field->get<double>());
  } else {
    throw bad_type(name_of(name), "an integer");
  }
  if (!fits || value < low || value > high) throw bad_value(name_of(name), range_words(double(low), double(high)));
  return value;
}

const Json* Fields::object(const char* name) const {
  const Json* field = find(name);
  if (field && !field->is_object()) throw bad_type(name_of(name), "an object");
  return field;
}

}  // namespace fettle
