// safetensors files (the format's README and its reference reader's checks). The idea: the JSON header is read as a stream of events into
// flat entries, so its depth, duplicates and number ranges are checked before anything is built from it; then the entries, sorted by their
// bytes, must tile the rest of the file exactly. Sets of shards: safetensors_set.cc. Not
// handled: big-endian machines.
#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "base/json_text.h"
#include "format/format.h"
#include "store/store.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
constexpr uint64_t kMaxHeader = 100'000'000;  // the reference reader's limit
constexpr size_t kMaxDims = 64;

struct Dtype {
  const char* name;
  int bits;
  const char* format;  // ours, nullptr: none
};
constexpr Dtype kDtypes[] = {{"F32", 32, "F32"},      {"F16", 16, "F16"},          {"BF16", 16, "BF16"},        {"BOOL", 8, nullptr},
                             {"U8", 8, nullptr},      {"I8", 8, nullptr},          {"F8_E5M2", 8, nullptr},     {"F8_E4M3", 8, nullptr},
                             {"F8_E8M0", 8, nullptr}, {"F8_E4M3FNUZ", 8, nullptr}, {"F8_E5M2FNUZ", 8, nullptr}, {"F4", 4, nullptr},
                             {"F6_E2M3", 6, nullptr}, {"F6_E3M2", 6, nullptr},     {"I16", 16, nullptr},        {"U16", 16, nullptr},
                             {"I32", 32, nullptr},    {"U32", 32, nullptr},        {"C64", 64, nullptr},        {"F64", 64, nullptr},
                             {"I64", 64, nullptr},    {"U64", 64, nullptr}};

struct Entry {
  std::string name, dtype;
  std::vector<uint64_t> shape, offsets;
  bool has_dtype = false, has_shape = false, has_offsets = false;
};

// Receives the header's events. The grammar is {name: {"dtype": s, "shape": [n...], "data_offsets": [n, n]}, "__metadata__": {s: s}}.
class Header : public nlohmann::json_sax<Json> {
 public:
  explicit Header(std::string place) : place_(std::move(place)) {}
  std::vector<Entry> entries;
  std::map<std::string, std::string> metadata;

  bool start_object(size_t) override {
    if (level_ == 1 && !key_.empty())
      in_metadata_ = key_ == "__metadata__";
    else if (level_ != 0)
      fail("an object where none belongs");
    level_++;
    return true;
  }
  bool end_object() override {
    if (level_ == 2 && !in_metadata_) {
      const Entry& e = entries.back();
      if (!e.has_dtype || !e.has_shape || !e.has_offsets) fail("tensor \"" + printable(e.name) + "\" lacks dtype, shape or data_offsets");
    }
    level_--;
    return true;
  }
  bool key(std::string& key) override {
    key_ = key;
    if (level_ == 1) {
      if (key.empty()) fail("a tensor without a name");
      if (!names_.insert(key).second) fail("tensor \"" + printable(key) + "\" occurs twice");
      if (key != "__metadata__") entries.push_back({.name = key});
    }
    return true;
  }
  bool string(std::string& text) override {
    if (level_ == 2 && in_metadata_) {
      if (!metadata.emplace(key_, text).second) fail("metadata key \"" + printable(key_) + "\" occurs twice");
      return true;
    }
    if (level_ != 2 || list_ || key_ != "dtype") fail("a text where none belongs");
    once(entries.back().has_dtype);
    entries.back().dtype = text;
    return true;
  }
  bool start_array(size_t) override {
    if (level_ != 2 || in_metadata_ || list_) fail("a list where none belongs");
    Entry& e = entries.back();
    if (key_ == "shape")
      once(e.has_shape), list_ = &e.shape;
    else if (key_ == "data_offsets")
      once(e.has_offsets), list_ = &e.offsets;
    else
      fail("a list where none belongs");
    return true;
  }
  bool end_array() override {
    list_ = nullptr;
    return true;
  }
  bool number_unsigned(uint64_t n) override {
    if (!list_) fail("a number where none belongs");
    if (list_->size() >= kMaxDims) fail("tensor \"" + printable(entries.back().name) + "\" has too many dimensions");
    list_->push_back(n);
    return true;
  }
  bool null() override { fail("a null where none belongs"); }
  bool boolean(bool) override { fail("a true or false where none belongs"); }
  bool number_integer(int64_t) override { fail("a negative number"); }
  bool number_float(double, const std::string&) override { fail("a number that is no 64-bit integer"); }
  bool binary(Json::binary_t&) override { fail("binary data"); }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception&) override {
    throw refused(place_ + ": byte " + std::to_string(8 + position), "the header is not valid JSON");
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw refused(place_, "the header is not a safetensors header: " + what); }
  void once(bool& seen) const {
    if (seen) fail("tensor \"" + printable(entries.back().name) + "\" says its " + key_ + " twice");
    seen = true;
  }
  std::string place_, key_;
  std::set<std::string, std::less<>> names_;
  int level_ = 0;
  bool in_metadata_ = false;
  std::vector<uint64_t>* list_ = nullptr;
};

std::string_view header_text(const MappedFile& file, const std::string& place) {
  std::string_view text = file.text();
  uint64_t n = 0;
  if (text.starts_with("version ") && text.substr(0, 200).find("git-lfs") != text.npos)
    throw refused(place, "is a pointer that git left in the file's place", "fetch the file itself: `git lfs pull`");
  if (text.size() < 8) throw refused(place, "is no safetensors file: it has " + std::to_string(text.size()) + " bytes");
  std::memcpy(&n, text.data(), 8);
  if (n > kMaxHeader) throw refused(place, "is no safetensors file: its header would be longer than 100 MB");
  if (n > text.size() - 8)
    throw refused(
        place, "the header claims " + std::to_string(n) + " bytes; the file has " + std::to_string(text.size() - 8) + " after its length",
        "the file may be cut short: fetch it again");
  text = text.substr(8, n);
  if (text.empty() || text[0] != '{') throw refused(place, "is no safetensors file: the header does not begin with '{'");
  return text;
}

// The number of elements; refuses what does not fit 63 bits.
int64_t count_of(const Entry& e, const std::string& place) {
  int64_t count = 1;
  for (uint64_t d : e.shape)
    if (d > uint64_t(INT64_MAX) || __builtin_mul_overflow(count, int64_t(d), &count))
      throw refused(place, "its shape is too large to be true");
  return count;
}

const Dtype& dtype_of(const Entry& e, const std::string& place) {
  for (const auto& d : kDtypes)
    if (e.dtype == d.name) return d;
  throw refused(place, "has the unknown dtype \"" + printable(e.dtype, 20) + "\"");
}

// Offsets, shape and dtype against each other; `next` is where the tensor has to begin.
void check_entry(const Entry& e, const Dtype& dtype, uint64_t next, uint64_t data_bytes, const std::string& place) {
  if (e.offsets.size() != 2) throw refused(place, "data_offsets are two numbers");
  uint64_t begin = e.offsets[0], end = e.offsets[1];
  if (begin > end) throw refused(place, "ends before it begins");
  if (end > data_bytes)
    throw refused(place, "ends at byte " + std::to_string(end) + " of " + std::to_string(data_bytes),
                  "the file may be cut short: fetch it again");
  if (begin < next) throw refused(place, "overlaps the tensor before it");
  if (begin > next) throw refused(place, "there are " + std::to_string(begin - next) + " bytes before it that belong to no tensor");
  unsigned __int128 bits = (unsigned __int128)(count_of(e, place)) * unsigned(dtype.bits);
  if (bits % 8 != 0 || bits / 8 != end - begin)
    throw refused(place, "has " + std::to_string(end - begin) + " bytes, which its shape and dtype " + dtype.name + " do not make");
}

std::string why_unusable(const Entry& e, const Dtype& dtype) {
  if (!dtype.format) return std::string("dtype ") + dtype.name + " is not read here";
  if (e.shape.size() > 4) return "more than four dimensions";
  return std::count(e.shape.begin(), e.shape.end(), uint64_t(0)) ? "no elements" : "";
}

}  // namespace

Safetensors::Safetensors(const fs::path& path) : file_(path) {
  std::string_view text = header_text(file_, path.string());
  Header header(path.string());
  Json::sax_parse(text.begin(), text.end(), &header);
  metadata_ = std::move(header.metadata);
  auto data = file_.bytes().subspan(8 + text.size());
  auto place = [&](const Entry& e) { return path.string() + ": tensor \"" + printable(e.name) + "\""; };
  std::sort(header.entries.begin(), header.entries.end(), [](const Entry& a, const Entry& b) { return a.offsets < b.offsets; });
  uint64_t next = 0;
  for (const Entry& e : header.entries) {
    const Dtype& dtype = dtype_of(e, place(e));
    check_entry(e, dtype, next, data.size(), place(e));
    next = e.offsets[1];
    const auto bytes = data.subspan(e.offsets[0], e.offsets[1] - e.offsets[0]);
    Shape shape;
    if (e.shape.size() <= 4) {
      for (uint64_t d : e.shape) shape.dim[shape.n++] = int64_t(d);
      raw_.push_back({e.name, e.dtype, shape, bytes});
    }
    if (std::string why = why_unusable(e, dtype); !why.empty()) {
      unusable_.push_back({e.name, e.dtype, why});
      continue;
    }
    const Tensor tensor{find_format(dtype.format), shape, bytes};
    index_.emplace(e.name, tensors_.size());
    tensors_.push_back({e.name, tensor});
  }
  if (next != data.size())
    throw refused(path.string(), std::to_string(data.size() - next) + " bytes at the end of the file belong to no tensor");
}

const Tensor* Safetensors::find(const std::string& name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second].tensor;
}

SafetensorsItem f32_item(std::string name, Shape shape, const float* data) {
  const std::span<const std::byte> bytes = std::as_bytes(std::span(data, size_t(shape.count())));
  return {std::move(name), "F32", shape, [bytes] { return bytes; }};
}

uint64_t SafetensorsItem::size() const {
  const auto found = std::find_if(std::begin(kDtypes), std::end(kDtypes), [&](const Dtype& d) { return dtype == d.name; });
  CHECK(found != std::end(kDtypes) && found->bits % 8 == 0, "no such dtype");
  return uint64_t(shape.count()) * uint64_t(found->bits / 8);
}

void write_safetensors(const fs::path& path, const std::vector<SafetensorsItem>& items) {
  // "format" tells readers from the Python world whose tensors these are; they refuse a file that does not say it
  nlohmann::ordered_json header = {{"__metadata__", {{"format", "pt"}}}};
  auto& members = header.get_ref<nlohmann::ordered_json::object_t&>();  // ordered_json would look through all names for each one
  std::set<std::string_view> names = {"__metadata__"};
  uint64_t offset = 0;
  for (const SafetensorsItem& t : items) {
    if (t.name.empty() || !valid_utf8(t.name) || !names.insert(t.name).second)
      throw refused(path.string(), "tensor name \"" + printable(t.name) + "\" is empty, not UTF-8 or used twice");
    auto shape = nlohmann::ordered_json::array();
    for (int i = 0; i < t.shape.n; i++) shape.push_back(t.shape.dim[i]);
    const uint64_t end = offset + t.size();
    members.emplace_back(t.name, nlohmann::ordered_json{{"dtype", t.dtype}, {"shape", std::move(shape)}, {"data_offsets", {offset, end}}});
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // the data begin at a multiple of 8
  uint64_t n = text.size();
  AtomicFile file(path);
  file.write(std::string_view(reinterpret_cast<const char*>(&n), sizeof n));
  file.write(text);
  for (const SafetensorsItem& t : items) {
    const std::span<const std::byte> bytes = t.bytes();
    CHECK(bytes.size() == t.size(), "a tensor's bytes do not match its shape");
    file.write(bytes);
  }
  file.commit();
}

}  // namespace fettle
