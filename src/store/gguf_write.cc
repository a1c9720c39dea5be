// Writing GGUF v3 (ggml docs/gguf.md): metadata is encoded when it is set, tensors are fetched one by one while the file is written, in
// table order and without gaps, each padded to 32 bytes. Goes through AtomicFile: the name holds the old file or the whole new one.
#include <algorithm>
#include <cstring>
#include <limits>
#include <map>
#include <set>

#include "format/format.h"
#include "store/gguf.h"

namespace fettle {
namespace {

using Type = GgufValue::Type;
constexpr uint64_t kAlignment = 32;
constexpr size_t kMaxTensorName = 63;

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void put_text(std::string& out, std::string_view text) {
  put(out, uint64_t(text.size()));
  out += text;
}

// The value's integer as T; a value that does not fit its declared type is the caller's bug.
template <class T>
void put_integer(std::string& out, const GgufValue& v) {
  if (auto* u = std::get_if<uint64_t>(&v.value)) {
    CHECK(std::in_range<T>(*u), "metadata integer does not fit its type");
    put(out, T(*u));
  } else {
    CHECK(std::holds_alternative<int64_t>(v.value), "metadata value is no integer");
    CHECK(std::in_range<T>(std::get<int64_t>(v.value)), "metadata integer does not fit its type");
    put(out, T(std::get<int64_t>(v.value)));
  }
}

double real_of(const GgufValue& v) {
  CHECK(std::holds_alternative<double>(v.value), "metadata value is no real");
  return std::get<double>(v.value);
}

void put_value(std::string& out, Type type, const GgufValue& v) {
  switch (type) {
    case Type::u8:
      return put_integer<uint8_t>(out, v);
    case Type::i8:
      return put_integer<int8_t>(out, v);
    case Type::u16:
      return put_integer<uint16_t>(out, v);
    case Type::i16:
      return put_integer<int16_t>(out, v);
    case Type::u32:
      return put_integer<uint32_t>(out, v);
    case Type::i32:
      return put_integer<int32_t>(out, v);
    case Type::u64:
      return put_integer<uint64_t>(out, v);
    case Type::i64:
      return put_integer<int64_t>(out, v);
    case Type::f32:
      return put(out, float(real_of(v)));
    case Type::f64:
      return put(out, real_of(v));
    case Type::boolean:
      CHECK(std::holds_alternative<bool>(v.value), "metadata value is no bool");
      return put(out, uint8_t(std::get<bool>(v.value)));
    case Type::string:
      CHECK(std::holds_alternative<std::string>(v.value), "metadata value is no string");
      return put_text(out, std::get<std::string>(v.value));
    case Type::array:
      break;
  }
  CHECK(type == Type::array && v.element != Type::array, "no such metadata type");
  CHECK(std::holds_alternative<GgufArray>(v.value), "metadata value is no array");
  const auto& array = std::get<GgufArray>(v.value);
  put(out, uint32_t(v.element));
  put(out, uint64_t(array.size()));
  for (const auto& element : array) put_value(out, v.element, element);
}

uint64_t padding(uint64_t n) { return (kAlignment - n % kAlignment) % kAlignment; }

void pad(AtomicFile& file) {
  static constexpr char kZeros[kAlignment] = {};
  file.write(std::string_view(kZeros, padding(file.size())));
}

}  // namespace

std::string& GgufWriter::slot(const std::string& key) {
  CHECK(!key.empty() && key != "general.alignment", "the writer sets the alignment itself");
  const auto [known, fresh] = places_.try_emplace(key, metadata_.size());
  if (fresh) return metadata_.emplace_back(Item{key, {}}).encoded;
  std::string& encoded = metadata_[known->second].encoded;
  encoded.clear();
  return encoded;
}

void GgufWriter::set(const std::string& key, const GgufValue& value) {
  std::string& out = slot(key);
  put(out, uint32_t(value.type));
  put_value(out, value.type, value);
}

void GgufWriter::set_integer(const std::string& key, uint32_t value) { set(key, {Type::u32, Type::u32, uint64_t(value)}); }
void GgufWriter::set_real(const std::string& key, float value) { set(key, {Type::f32, Type::u32, double(value)}); }
void GgufWriter::set_string(const std::string& key, const std::string& value) { set(key, {Type::string, Type::u32, value}); }

void GgufWriter::set_strings(const std::string& key, const std::vector<std::string>& values) {
  std::string& out = slot(key);
  put(out, uint32_t(Type::array));
  put(out, uint32_t(Type::string));
  put(out, uint64_t(values.size()));
  for (const auto& value : values) put_text(out, value);
}

void GgufWriter::erase(const std::string& key) {
  std::erase_if(metadata_, [&](const Item& item) { return item.key == key; });
  places_.clear();
  for (size_t i = 0; i < metadata_.size(); i++) places_[metadata_[i].key] = i;
}

void GgufWriter::copy_metadata(const Gguf& from) {
  for (const auto& raw : from.raw_metadata()) {
    if (raw.key == "general.alignment" || raw.key.starts_with("split.")) continue;
    std::string& out = slot(raw.key);
    put(out, uint32_t(raw.type));
    if (raw.type == Type::array) {
      put(out, uint32_t(raw.element));
      put(out, raw.count);
    } else if (raw.type == Type::string) {
      put(out, uint64_t(raw.bytes.size()));
    }
    out.append(reinterpret_cast<const char*>(raw.bytes.data()), raw.bytes.size());
  }
}

void GgufWriter::add(const std::string& name, const Format* format, Shape shape, std::function<std::span<const std::byte>()> bytes) {
  CHECK(format && shape.n >= 1 && shape.n <= 4 && shape.count() > 0, "a tensor needs a format and a shape");
  CHECK(format->gguf_id >= 0, "a file has no such format");
  CHECK(shape.cols() % format->block == 0, "rows must be whole blocks");
  tensors_.push_back({name, format, shape, std::move(bytes)});
}

uint64_t GgufWriter::Written::bytes() const { return uint64_t(parts[0]->format->bytes_for(shape.count())); }

// Stacks stand where the first of their experts was added.
std::vector<GgufWriter::Written> GgufWriter::table() const {
  std::map<std::string, std::vector<const Entry*>> stacks;
  std::set<std::string> apart;  // stacks that cannot be: an expert twice, missing, or of another kind
  for (const Entry& t : tensors_)
    if (const auto place = expert_place(t.name)) {
      std::vector<const Entry*>& parts = stacks[place->stack];
      if (size_t(place->expert) >= parts.size()) parts.resize(std::min<size_t>(size_t(place->expert), tensors_.size()) + 1);
      const Entry*& part = parts[std::min(size_t(place->expert), parts.size() - 1)];
      if (part || t.shape.n != 2) apart.insert(place->stack);
      part = &t;
    }
  for (const auto& [name, parts] : stacks)
    for (const Entry* part : parts)
      if (!part || !parts[0] || part->format != parts[0]->format || part->shape != parts[0]->shape) apart.insert(name);
  std::vector<Written> table;
  for (const Entry& t : tensors_) {
    const auto place = expert_place(t.name);
    if (!place || apart.count(place->stack)) {
      table.push_back({t.name, t.shape, {&t}});
    } else if (const auto stack = stacks.find(place->stack); stack != stacks.end()) {
      table.push_back({place->stack, {int64_t(stack->second.size()), t.shape.dim[0], t.shape.dim[1]}, std::move(stack->second)});
      stacks.erase(stack);
    }
  }
  return table;
}

std::string GgufWriter::head() const { return head(table()); }

std::string GgufWriter::head(const std::vector<Written>& table) const {
  std::string head = "GGUF";
  put(head, uint32_t(3));
  put(head, uint64_t(table.size()));
  put(head, uint64_t(metadata_.size()));
  for (const auto& item : metadata_) {
    put_text(head, item.key);
    head += item.encoded;
  }
  uint64_t offset = 0;
  for (const Written& t : table) {
    put_text(head, t.name);
    put(head, uint32_t(t.shape.n));
    for (int i = t.shape.n; i-- > 0;) put(head, t.shape.dim[i]);
    put(head, uint32_t(t.parts[0]->format->gguf_id));
    put(head, offset);
    offset += t.bytes() + padding(t.bytes());
  }
  return head;
}

uint64_t GgufWriter::file_bytes() const {
  const std::vector<Written> written = table();
  uint64_t bytes = head(written).size();
  bytes += padding(bytes);
  for (const Written& t : written) {
    bytes += t.bytes();
    bytes += padding(bytes);
  }
  return bytes;
}

void GgufWriter::write(const fs::path& path) {
  const std::vector<Written> written = table();
  std::set<std::string> names;
  for (const Written& t : written) {
    if (t.name.empty() || t.name.size() > kMaxTensorName)
      throw refused(path.string(), "GGUF tensor names have 1 to 63 bytes, not \"" + t.name + "\"");
    if (!names.insert(t.name).second) throw refused(path.string(), "tensor \"" + t.name + "\" would be written twice");
  }
  AtomicFile file(path);
  file.write(head(written));
  pad(file);
  for (const Written& t : written) {
    for (const Entry* part : t.parts) {
      auto bytes = part->bytes();
      CHECK(bytes.size() == uint64_t(part->format->bytes_for(part->shape.count())), "a tensor's bytes do not match its shape");
      file.write(bytes);
    }
    pad(file);
  }
  file.commit();
}

}  // namespace fettle
