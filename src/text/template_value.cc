// Values of chat templates: spans of quoted text, dictionaries, Python's truth and equality.
#include "text/template_value.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace fettle::jinja {

void Marked::quote(size_t begin, size_t end) {
  if (begin == end) return;
  if (!quoted.empty() && quoted.back().end == begin) {
    quoted.back().end = end;
  } else {
    quoted.push_back({begin, end});
  }
}

void Marked::append_quoted(std::string_view text) {
  const size_t begin = bytes.size();
  bytes += text;
  quote(begin, bytes.size());
}

void Marked::append(const Marked& from, size_t begin, size_t end) {
  end = std::min(end, from.bytes.size());
  if (begin >= end) return;
  const size_t at = bytes.size();
  bytes.append(from.bytes, begin, end - begin);
  auto span =
      std::upper_bound(from.quoted.begin(), from.quoted.end(), begin, [](size_t place, const TextSpan& s) { return place < s.end; });
  for (; span != from.quoted.end() && span->begin < end; ++span) {
    quote(at + std::max(span->begin, begin) - begin, at + std::min(span->end, end) - begin);
  }
}

Marked Marked::slice(size_t begin, size_t end) const {
  Marked part;
  part.append(*this, begin, end);
  return part;
}

Marked Marked::like(std::string changed) const {
  Marked result;
  if (quoted.empty()) {
    result.bytes = std::move(changed);
  } else {
    result.append_quoted(changed);
  }
  return result;
}

Dict::Dict(std::vector<std::pair<Value, Value>> pairs) {  // NOLINT: its items are moved out
  constexpr size_t kSmall = 8;
  const bool many = pairs.size() > kSmall;
  items.reserve(pairs.size());
  for (auto& [key, value] : pairs) {
    if (const Value* known = find(key); known != nullptr) {
      *const_cast<Value*>(known) = std::move(value);
      continue;
    }
    items.emplace_back(std::move(key), std::move(value));
    const Value& kept = items.back().first;
    if (many && kept.is_text()) index_.emplace(kept.text().bytes, items.size() - 1);
  }
}

const Value* Dict::find(std::string_view key) const {
  if (!index_.empty()) {
    const auto found = index_.find(key);
    return found == index_.end() ? nullptr : &items[found->second].second;
  }
  for (const auto& [name, value] : items) {
    if (name.is_text() && name.text().bytes == key) return &value;
  }
  return nullptr;
}

const Value* Dict::find(const Value& key) const {
  if (key.is_text()) return find(std::string_view(key.text().bytes));
  for (const auto& [name, value] : items) {
    if (!name.is_text() && equal(name, key)) return &value;
  }
  return nullptr;
}

bool truthy(const Value& value) {
  if (value.is_undefined() || value.is_none()) return false;
  if (value.is_whole()) return value.whole() != 0;
  if (value.is<double>()) return value.as<double>() != 0;
  if (value.is_text()) return !value.text().bytes.empty();
  if (value.is_list()) return value.list().kind == List::Kind::iterator || !value.list().items.empty();
  if (value.is_dict()) return !value.dict().items.empty();
  return true;
}

const char* type_name(const Value& value) {
  constexpr const char* kLists[] = {"list", "tuple", "dict_keys", "dict_values", "dict_items", "range", "generator"};
  if (value.is_list()) return kLists[static_cast<size_t>(value.list().kind)];
  if (value.is<Object*>()) return value.as<Object*>()->type();
  constexpr const char* kNames[] = {"undefined", "none", "bool", "int", "float", "str", "list", "dict", "method", "object"};
  return kNames[value.data.index()];
}

namespace {

bool equal_lists(const List& a, const List& b) {
  if (&a == &b) return true;
  if (a.kind != b.kind || a.kind == List::Kind::iterator || a.items.size() != b.items.size()) return false;
  return std::equal(a.items.begin(), a.items.end(), b.items.begin(), equal);
}

bool equal_dicts(const Dict& a, const Dict& b) {
  if (&a == &b) return true;
  if (a.items.size() != b.items.size()) return false;
  return std::all_of(a.items.begin(), a.items.end(), [&](const auto& pair) {
    const Value* other = b.find(pair.first);
    return other != nullptr && equal(pair.second, *other);
  });
}

}  // namespace

bool equal(const Value& a, const Value& b) {
  if (a.is_whole() && b.is_whole()) return a.whole() == b.whole();
  if (a.is_number() && b.is_number()) return a.real() == b.real();
  if (a.data.index() != b.data.index()) return false;
  if (a.is_text()) return a.text().bytes == b.text().bytes;
  if (a.is_list()) return equal_lists(a.list(), b.list());
  if (a.is_dict()) return equal_dicts(a.dict(), b.dict());
  if (a.is<Object*>()) return a.as<Object*>() == b.as<Object*>();
  if (a.is<std::shared_ptr<const Method>>()) {
    const Method &x = *a.as<std::shared_ptr<const Method>>(), &y = *b.as<std::shared_ptr<const Method>>();
    return x.name == y.name && equal(x.self, y.self);
  }
  return true;  // undefined, none
}

// The shortest text that reads back as the same number, laid out as Python's repr does.
std::string number_text(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value, std::chars_format::scientific).ptr;
  const std::string_view text(buffer, static_cast<size_t>(end - buffer));
  const size_t e = text.find('e');
  const int exponent = std::atoi(std::string(text.substr(e + 1)).c_str());
  if (exponent < -4 || exponent >= 16) return std::string(text);
  char plain[64];
  const auto stop = std::to_chars(plain, plain + sizeof plain, value, std::chars_format::fixed).ptr;
  std::string result(plain, stop);
  if (result.find('.') == std::string::npos) result += ".0";
  return result;
}

}  // namespace fettle::jinja
