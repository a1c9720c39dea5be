// What GGUF metadata values mean: decoded when they are asked for, from where the reader left them (gguf_read.cc).
#include "store/gguf_values.h"

#include <cmath>

#include "base/base.h"

namespace fettle {

using Type = GgufValue::Type;

std::string in_quotes(std::string_view name) {
  std::string text = "\"";
  for (char c : name.substr(0, 80)) text += (uint8_t(c) < 32 || uint8_t(c) >= 127) ? '?' : c;
  return text + (name.size() > 80 ? "...\"" : "\"");
}

uint64_t size_of(Type type) {
  switch (type) {
    case Type::u8:
    case Type::i8:
    case Type::boolean:
      return 1;
    case Type::u16:
    case Type::i16:
      return 2;
    case Type::u32:
    case Type::i32:
    case Type::f32:
      return 4;
    case Type::u64:
    case Type::i64:
    case Type::f64:
      return 8;
    case Type::string:
    case Type::array:
      return 0;
  }
  return 0;
}

const char* name_of(Type type) {
  static constexpr const char* kNames[] = {"u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"};
  return uint32_t(type) < std::size(kNames) ? kNames[uint32_t(type)] : "unknown";
}

bool is_number(Type type) { return size_of(type) != 0 && type != Type::boolean; }

namespace {

GgufValue decode_scalar(Type type, const std::byte* p) {
  GgufValue v;
  v.type = type;
  switch (type) {
    case Type::u8:
      v.value = uint64_t(load<uint8_t>(p));
      break;
    case Type::i8:
      v.value = int64_t(load<int8_t>(p));
      break;
    case Type::u16:
      v.value = uint64_t(load<uint16_t>(p));
      break;
    case Type::i16:
      v.value = int64_t(load<int16_t>(p));
      break;
    case Type::u32:
      v.value = uint64_t(load<uint32_t>(p));
      break;
    case Type::i32:
      v.value = int64_t(load<int32_t>(p));
      break;
    case Type::f32:
      v.value = double(load<float>(p));
      break;
    case Type::boolean:
      v.value = load<uint8_t>(p) != 0;
      break;
    case Type::u64:
      v.value = load<uint64_t>(p);
      break;
    case Type::i64:
      v.value = load<int64_t>(p);
      break;
    case Type::f64:
      v.value = load<double>(p);
      break;
    case Type::string:
    case Type::array:
      CHECK(false, "not a scalar");
  }
  return v;
}

// Calls each(string_view) for the strings of a checked array.
template <class Each>
void for_each_string(const Gguf::Raw& raw, Each&& each) {
  const std::byte* p = raw.bytes.data();
  for (uint64_t i = 0; i < raw.count; i++) {
    uint64_t n = load<uint64_t>(p);
    each(std::string_view(reinterpret_cast<const char*>(p) + 8, n));
    p += 8 + n;
  }
}

GgufValue decode(const Gguf::Raw& raw) {
  GgufValue v;
  v.type = raw.type;
  if (raw.type == Type::string) {
    v.value = std::string(reinterpret_cast<const char*>(raw.bytes.data()), raw.bytes.size());
    return v;
  }
  if (raw.type != Type::array) return decode_scalar(raw.type, raw.bytes.data());
  v.element = raw.element;
  GgufArray array;
  array.reserve(raw.count);
  if (raw.element == Type::string)
    for_each_string(raw, [&](std::string_view s) { array.push_back({Type::string, Type::u32, std::string(s)}); });
  else
    for (uint64_t i = 0; i < raw.count; i++) array.push_back(decode_scalar(raw.element, raw.bytes.data() + i * size_of(raw.element)));
  v.value = std::move(array);
  return v;
}

double as_double(Type type, const std::byte* p) {
  GgufValue v = decode_scalar(type, p);
  if (auto* u = std::get_if<uint64_t>(&v.value)) return double(*u);
  if (auto* i = std::get_if<int64_t>(&v.value)) return double(*i);
  return std::get<double>(v.value);
}

}  // namespace

const std::map<std::string, GgufValue>& Gguf::metadata() const {
  std::lock_guard lock(decoded_->mutex);
  if (!std::exchange(decoded_->ready, true))
    for (const auto& r : raw_) decoded_->values.emplace(r.key, decode(r));
  return decoded_->values;
}

const Gguf::Raw* Gguf::raw(const std::string& key) const {
  auto it = keys_.find(key);
  return it == keys_.end() ? nullptr : &raw_[it->second];
}

std::string Gguf::place_of(const Raw& raw) const { return path_.string() + (head_ ? "" : ": byte " + std::to_string(raw.offset)); }

namespace {

[[noreturn]] void wrong_type(const std::string& place, const Gguf::Raw& raw, const char* wanted) {
  throw refused(place, "metadata " + in_quotes(raw.key) + " is of type " + name_of(raw.type) + ", not " + wanted);
}

}  // namespace

std::optional<int64_t> Gguf::integer(const std::string& key) const {
  const Raw* r = raw(key);
  if (!r) return std::nullopt;
  if (!is_number(r->type) || r->type == Type::f32 || r->type == Type::f64) wrong_type(place_of(*r), *r, "an integer");
  GgufValue v = decode_scalar(r->type, r->bytes.data());
  if (auto* i = std::get_if<int64_t>(&v.value)) return *i;
  uint64_t u = std::get<uint64_t>(v.value);
  if (u > uint64_t(INT64_MAX)) throw refused(place_of(*r), "metadata " + in_quotes(key) + " is too large: " + std::to_string(u));
  return int64_t(u);
}

std::optional<double> Gguf::real(const std::string& key) const {
  const Raw* r = raw(key);
  if (!r) return std::nullopt;
  if (!is_number(r->type)) wrong_type(place_of(*r), *r, "a number");
  double value = as_double(r->type, r->bytes.data());
  if (!std::isfinite(value)) throw refused(place_of(*r), "metadata " + in_quotes(key) + " is not a finite number");
  return value;
}

std::optional<bool> Gguf::boolean(const std::string& key) const {
  const Raw* r = raw(key);
  if (!r) return std::nullopt;
  if (r->type != Type::boolean) wrong_type(place_of(*r), *r, "true or false");
  return load<uint8_t>(r->bytes.data()) != 0;
}

std::optional<std::string> Gguf::string(const std::string& key) const {
  const Raw* r = raw(key);
  if (!r) return std::nullopt;
  if (r->type != Type::string) wrong_type(place_of(*r), *r, "a string");
  return std::string(reinterpret_cast<const char*>(r->bytes.data()), r->bytes.size());
}

std::vector<std::string> Gguf::strings(const std::string& key) const {
  const Raw* r = raw(key);
  if (!r) return {};
  if (r->type != Type::array || r->element != Type::string) wrong_type(place_of(*r), *r, "an array of strings");
  std::vector<std::string> out;
  out.reserve(r->count);
  for_each_string(*r, [&](std::string_view s) { out.emplace_back(s); });
  return out;
}

std::vector<double> Gguf::numbers(const std::string& key) const {
  const Raw* r = raw(key);
  if (!r) return {};
  Type type = r->type == Type::array ? r->element : r->type;
  if (!is_number(type)) wrong_type(place_of(*r), *r, "an array of numbers");
  std::vector<double> out(r->count);
  for (uint64_t i = 0; i < r->count; i++) out[i] = as_double(type, r->bytes.data() + i * size_of(type));
  return out;
}

}  // namespace fettle
