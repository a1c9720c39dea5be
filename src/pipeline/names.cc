// Names of models: checked where they enter, made up where a source has none.
#include "pipeline/names.h"

#include <algorithm>
#include <charconv>

#include "base/base.h"

namespace fettle {
namespace {

constexpr size_t kLongest = 64;

bool starts(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool goes_on(char c) { return starts(c) || c == '.' || c == '_' || c == '-'; }

}  // namespace

bool valid_model_name(std::string_view name) {
  return !name.empty() && name.size() <= kLongest && starts(name[0]) && std::all_of(name.begin(), name.end(), goes_on);
}

void require_model_name(const std::string& name) {
  if (valid_model_name(name)) return;
  throw usage("'" + name + "' cannot be a model's name: small letters, digits, and . _ - inside, at most 64 characters",
              "for example " + name_from(name));
}

std::string name_from(std::string_view text) {
  while (!text.empty() && text.back() == '/') text.remove_suffix(1);
  if (size_t slash = text.find_last_of("/\\"); slash != std::string_view::npos) text.remove_prefix(slash + 1);
  std::string name;
  for (char c : lower(text)) {
    if (goes_on(c))
      name += c;
    else if (!name.empty() && name.back() != '-')
      name += '-';
  }
  if (name.ends_with(".gguf")) name.resize(name.size() - 5);
  name.erase(0, size_t(std::find_if(name.begin(), name.end(), starts) - name.begin()));
  if (name.size() > kLongest) name.resize(kLongest);
  while (!name.empty() && !starts(name.back())) name.pop_back();
  return name.empty() ? "model" : name;
}

int version_number(const std::string& text) {
  int number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size() && number > 0 && text[0] != '0' ? number : 0;
}

}  // namespace fettle
