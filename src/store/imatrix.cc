// Importance files: how strongly each input column of a weight is used, measured by whoever made them. Written as llama.cpp's GGUF kind
// (its tools/imatrix: NAME.in_sum2 and NAME.counts), read in that kind and in the older .dat. A stack's experts have a
// row of sums each and are entries of their own here. Not handled: NAME.in_sum (plain sums), which newer files may carry beside; it is
// passed over.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/json_text.h"
#include "format/format.h"
#include "store/store.h"

namespace fettle {
namespace {

constexpr uint32_t kChunkTokens = 512;
constexpr std::string_view kSums = ".in_sum2", kCounts = ".counts";

double checked(double value, const std::string& place) {
  if (!std::isfinite(value) || value < 0) throw refused(place, "holds a value that is negative or not finite");
  return value;
}

std::vector<float> floats_of(const Tensor& tensor, const std::string& place) {
  if (tensor.format != find_format("F32")) throw refused(place, "is not F32");
  std::vector<float> values(size_t(tensor.shape.count()));
  std::memcpy(values.data(), tensor.bytes.data(), values.size() * sizeof(float));
  for (float v : values) checked(double(v), place);
  return values;
}

// One for each expert of a stack; the matrices of any other tensor are added up.
void add_entries(const std::string& name, const Tensor& sums, const Tensor& counts, const std::string& path,
                 std::vector<ImportanceEntry>& entries) {
  std::string place = path + ": " + printable(name);
  int64_t in = sums.shape.cols(), n = sums.shape.rows();
  if (counts.shape.count() != n && counts.shape.count() != 1)
    throw refused(place, "has sums of " + sums.shape.text() + " and counts of " + counts.shape.text());
  const std::vector<float> values = floats_of(sums, place), rows = floats_of(counts, place);
  const bool stack = !expert_name(name, 0).empty() && rows.size() == size_t(n);
  for (int64_t i = 0; i < n; i++) {
    if (i == 0 || stack) entries.push_back({stack ? expert_name(name, int(i)) : name, std::vector<double>(size_t(in), 0.0), 0});
    ImportanceEntry& entry = entries.back();
    for (int64_t j = 0; j < in; j++) entry.sum_squares[size_t(j)] += double(values[size_t(i * in + j)]);
    if (size_t(i) < rows.size()) entry.tokens += double(rows[size_t(i)]);
  }
}

std::vector<ImportanceEntry> read_gguf(const fs::path& path) {
  Gguf gguf(path);
  auto type = gguf.string("general.type");
  if (!type || *type != "imatrix")
    throw refused(path.string(), "is no importance file (general.type is " + printable(type.value_or("absent"), 40) + ")");
  std::vector<ImportanceEntry> entries;
  for (const auto& [name, tensor] : gguf.tensors()) {
    if (!name.ends_with(kSums)) continue;
    std::string base = name.substr(0, name.size() - kSums.size());
    const Tensor* counts = gguf.find(base + std::string(kCounts));
    if (!counts) throw refused(path.string(), printable(base) + " has sums but no counts");
    add_entries(base, tensor, *counts, path.string(), entries);
  }
  return entries;
}

// The older kind: a count, then {length, name, calls, length, f32 sums of means}; what follows says where the data came from.
class LegacyReader {
 public:
  explicit LegacyReader(const fs::path& path) : path_(path.string()), file_(path), rest_(file_.bytes()) {}

  std::vector<ImportanceEntry> read() {
    int32_t n = number("the number of entries");
    if (n < 1 || uint64_t(n) > rest_.size() / 16) fail("it claims " + std::to_string(n) + " entries");
    std::vector<ImportanceEntry> entries;
    for (int32_t i = 0; i < n; i++) entries.push_back(entry(i));
    return entries;
  }

 private:
  ImportanceEntry entry(int32_t index) {
    std::string what = "entry " + std::to_string(index);
    auto bytes = take(number(what), 1, what);
    ImportanceEntry e{std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()), {}, 0};
    int32_t calls = number(what);
    auto values = take(number(what), sizeof(float), what);
    e.tokens = std::max(calls, 1);  // files without calls hold means
    for (size_t at = 0; at < values.size(); at += sizeof(float)) {
      float v;
      std::memcpy(&v, values.data() + at, sizeof v);
      e.sum_squares.push_back(checked(double(v), path_ + ": " + printable(e.name)));
    }
    return e;
  }
  int32_t number(const std::string& what) {
    int32_t n;
    if (rest_.size() < sizeof n) fail("the file ends inside " + what);
    std::memcpy(&n, rest_.data(), sizeof n);
    rest_ = rest_.subspan(sizeof n);
    return n;
  }
  std::span<const std::byte> take(int32_t count, size_t each, const std::string& what) {
    if (count < 1 || uint64_t(count) > rest_.size() / each) fail(what + " claims a length of " + std::to_string(count));
    auto part = rest_.first(size_t(count) * each);
    rest_ = rest_.subspan(part.size());
    return part;
  }
  [[noreturn]] void fail(const std::string& what) const { throw refused(path_, "is no importance file, or a broken one: " + what); }

  std::string path_;
  MappedFile file_;
  std::span<const std::byte> rest_;
};

}  // namespace

void write_imatrix(const fs::path& path, const std::vector<ImportanceEntry>& entries, const std::string& data_name) {
  GgufWriter writer;
  double most = 0;
  for (const auto& e : entries) most = std::max(most, e.tokens);
  // llama.cpp refuses a file without these three
  writer.set_string("general.type", "imatrix");
  writer.set_strings("imatrix.datasets", {data_name});
  writer.set_integer("imatrix.chunk_count", uint32_t(std::min(std::ceil(most / kChunkTokens), 4e9)));
  writer.set_integer("imatrix.chunk_size", kChunkTokens);
  std::vector<std::pair<std::string, std::vector<const ImportanceEntry*>>> tensors;  // experts of a stack together
  std::map<std::string, size_t> stacks;
  for (const auto& e : entries) {
    CHECK(!e.sum_squares.empty(), "importance of no columns");
    const auto place = expert_place(e.name);
    const auto [known, fresh] = stacks.try_emplace(place ? place->stack : e.name, tensors.size());
    if (fresh) tensors.push_back({known->first, {}});
    auto& parts = tensors[known->second].second;
    CHECK(!place || (size_t(place->expert) == parts.size() && e.sum_squares.size() == (fresh ? e : *parts[0]).sum_squares.size()),
          "experts come in order, all of one shape");
    parts.push_back(&e);
  }
  const Format* f32 = find_format("F32");
  std::vector<float> values;
  for (const auto& [name, parts] : tensors) {
    const auto shape = [n = int64_t(parts.size())](int64_t columns) { return n > 1 ? Shape{n, columns} : Shape{columns}; };
    writer.add(name + std::string(kSums), f32, shape(int64_t(parts[0]->sum_squares.size())), [&, &parts = parts] {
      values.clear();
      for (const ImportanceEntry* e : parts) values.insert(values.end(), e->sum_squares.begin(), e->sum_squares.end());
      return std::as_bytes(std::span(std::as_const(values)));
    });
    writer.add(name + std::string(kCounts), f32, shape(1), [&, &parts = parts] {
      values.clear();
      for (const ImportanceEntry* e : parts) values.push_back(float(e->tokens));
      return std::as_bytes(std::span(std::as_const(values)));
    });
  }
  writer.write(path);
}

std::vector<ImportanceEntry> read_imatrix(const fs::path& path) {
  bool gguf = MappedFile(path).text().starts_with("GGUF");
  auto entries = gguf ? read_gguf(path) : LegacyReader(path).read();
  if (entries.empty()) throw refused(path.string(), "the importance file has no entries");
  std::map<std::string_view, int> names;
  for (const auto& e : entries)
    if (names[e.name]++) throw refused(path.string(), printable(e.name) + " occurs twice");
  return entries;
}

}  // namespace fettle
