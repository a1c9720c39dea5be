// Reading GGUF v2 and v3 (ggml docs/gguf.md; the checks of ggml's own reader and some more). The idea: one cursor that knows the file's end
// and refuses to pass it; a count is compared with the bytes that are left before anything is allocated or looped over. Metadata is walked
// once and remembered as places in the mapping. Does not handle: version 1 (32-bit counts), big-endian files, nested arrays.
#include <algorithm>
#include <bit>
#include <cstring>

#include "format/format.h"
#include "store/gguf_values.h"

namespace fettle {
namespace {

using Type = GgufValue::Type;
static_assert(std::endian::native == std::endian::little, "GGUF values are read as they lie");

constexpr uint64_t kMaxElements = uint64_t(1) << 24;  // of all arrays together; bounds what metadata() may allocate
constexpr uint64_t kMaxKey = 65535, kMaxString = uint64_t(1) << 30;
constexpr size_t kMaxTensorName = 63;
constexpr uint64_t kMinAlignment = 8, kMaxAlignment = uint64_t(1) << 24, kDefaultAlignment = 32;

// A position in the file that never passes its end.
class Cursor {
 public:
  Cursor(const fs::path& path, std::span<const std::byte> bytes) : path_(path.string()), bytes_(bytes) {}
  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

  [[noreturn]] void fail(uint64_t at, const std::string& message, const std::string& hint = {}) const {
    throw refused(path_ + ": byte " + std::to_string(at), message, hint);
  }
  std::span<const std::byte> take(uint64_t n, const std::string& what) {
    if (n > left()) fail(at_, what + " needs " + std::to_string(n) + " bytes, but the file ends after " + std::to_string(left()));
    auto part = bytes_.subspan(at_, n);
    at_ += n;
    return part;
  }
  template <class T>
  T get(const char* what) {
    T value;
    if (left() < sizeof value) fail(at_, std::string("the file ends inside ") + what);
    std::memcpy(&value, bytes_.data() + at_, sizeof value);
    at_ += sizeof value;
    return value;
  }
  std::string_view text(const char* what, uint64_t limit) {
    uint64_t start = at_, n = get<uint64_t>(what);
    if (n > limit || n > left())
      fail(start, std::string(what) + " claims " + std::to_string(n) + " bytes; " + std::to_string(left()) + " are left in the file" +
                      (n <= left() ? " and " + std::to_string(limit) + " are allowed" : ""));
    std::string_view view(reinterpret_cast<const char*>(bytes_.data()) + at_, n);
    at_ += n;
    return view;
  }

 private:
  std::string path_;
  std::span<const std::byte> bytes_;
  uint64_t at_ = 0;
};

Gguf::Raw read_array(Cursor& in, std::string key, uint64_t& elements) {
  uint64_t start = in.at();
  auto element = Type(in.get<uint32_t>("an array's element type"));
  if (element == Type::array) in.fail(start, "value of " + in_quotes(key) + " is an array of arrays");
  if (uint32_t(element) > uint32_t(Type::f64))
    in.fail(start, "array " + in_quotes(key) + " has elements of unknown type " + std::to_string(uint32_t(element)));
  uint64_t count = in.get<uint64_t>("an array's length");
  uint64_t least = element == Type::string ? 8 : size_of(element);
  if (count > in.left() / least)
    in.fail(start, "array " + in_quotes(key) + " claims " + std::to_string(count) + " elements; " + std::to_string(in.left()) +
                       " bytes are left in the file");
  if ((elements += count) > kMaxElements) in.fail(start, "arrays hold more than " + std::to_string(kMaxElements) + " values");
  uint64_t at = in.at();
  if (element != Type::string) return {std::move(key), Type::array, element, count, in.take(count * least, "an array"), at};
  const Cursor begin = in;
  for (uint64_t i = 0; i < count; i++) in.text("a string of an array", kMaxString);
  Cursor again = begin;
  return {std::move(key), Type::array, element, count, again.take(in.at() - at, "an array"), at};
}

Gguf::Raw read_value(Cursor& in, uint64_t& elements) {
  uint64_t start = in.at();
  std::string key(in.text("a metadata key", kMaxKey));
  if (key.empty()) in.fail(start, "a metadata key is empty");
  if (key.find('\0') != key.npos || !valid_utf8(key)) in.fail(start, "metadata key " + in_quotes(key) + " is not proper text");
  uint64_t type_at = in.at();
  auto type = Type(in.get<uint32_t>("a metadata type"));
  if (uint32_t(type) > uint32_t(Type::f64))
    in.fail(type_at, "metadata " + in_quotes(key) + " has unknown type " + std::to_string(uint32_t(type)));
  if (type == Type::array) return read_array(in, std::move(key), elements);
  if (type == Type::string) {
    std::string_view text = in.text("a metadata string", kMaxString);
    return {std::move(key), type, type, 1, std::as_bytes(std::span(text)), in.at() - text.size()};
  }
  uint64_t at = in.at();
  return {std::move(key), type, type, 1, in.take(size_of(type), "a metadata value"), at};
}

uint64_t read_alignment(Cursor& in, const std::vector<Gguf::Raw>& metadata) {
  for (const auto& raw : metadata) {
    if (raw.key != "general.alignment") continue;
    if (raw.type != Type::u32) in.fail(raw.offset, std::string("general.alignment is of type ") + name_of(raw.type) + ", not u32");
    uint64_t alignment = load<uint32_t>(raw.bytes.data());
    if (!std::has_single_bit(alignment) || alignment < kMinAlignment || alignment > kMaxAlignment)
      in.fail(raw.offset, "general.alignment is " + std::to_string(alignment) + ", not a power of two from " +
                              std::to_string(kMinAlignment) + " to " + std::to_string(kMaxAlignment));
    return alignment;
  }
  return kDefaultAlignment;
}

// A row of the tensor table, sizes already checked against overflow.
struct TableRow {
  NamedTensor named;
  uint64_t at, offset, bytes;
};

Shape read_shape(Cursor& in, const std::string& tensor) {
  uint64_t at = in.at();
  uint32_t n = in.get<uint32_t>("a tensor's dimension count");
  if (n < 1 || n > 4) in.fail(at, tensor + " has " + std::to_string(n) + " dimensions; 1 to 4 are allowed");
  Shape shape;
  shape.n = int(n);
  int64_t count = 1;
  for (uint32_t j = 0; j < n; j++) {
    at = in.at();
    int64_t size = in.get<int64_t>("a tensor's shape");
    if (size <= 0) in.fail(at, tensor + " has a dimension of " + std::to_string(size));
    if (__builtin_mul_overflow(count, size, &count)) in.fail(at, tensor + " has more elements than can be counted");
    shape.dim[n - 1 - j] = size;  // the file names the contiguous dimension first
  }
  return shape;
}

TableRow read_row(Cursor& in) {
  TableRow row;
  row.at = in.at();
  row.named.name = in.text("a tensor's name", kMaxTensorName);
  if (row.named.name.empty()) in.fail(row.at, "a tensor's name is empty");
  std::string tensor = "tensor " + in_quotes(row.named.name);
  if (row.named.name.find('\0') != std::string::npos || !valid_utf8(row.named.name))
    in.fail(row.at, tensor + " has a name that is not proper text");
  Shape shape = read_shape(in, tensor);
  uint64_t at = in.at();
  uint32_t id = in.get<uint32_t>("a tensor's type");
  const Format* format = id <= 0x7fffffff ? find_format(int(id)) : nullptr;
  if (!format) in.fail(at, tensor + " is of type " + std::to_string(id) + ", which fettle does not know");
  if (shape.cols() % format->block)
    in.fail(at, tensor + " has rows of " + std::to_string(shape.cols()) + " elements, not a multiple of " + format->name + "'s block of " +
                    std::to_string(format->block));
  if (__builtin_mul_overflow(uint64_t(shape.count()) / format->block, uint64_t(format->block_bytes), &row.bytes))
    in.fail(at, tensor + " is larger than any file");
  row.offset = in.get<uint64_t>("a tensor's offset");
  row.named.tensor = {format, shape, {}};
  return row;
}

uint64_t align_up(uint64_t n, uint64_t alignment) { return (n + alignment - 1) & ~(alignment - 1); }

// Gives every row its bytes: each must begin exactly where the padded sum of those before it ends.
void place_tensors(Cursor& in, std::span<const std::byte> file, std::vector<TableRow>& rows, uint64_t alignment) {
  if (rows.empty()) return;
  uint64_t start = align_up(in.at(), alignment), expected = 0;
  if (start > file.size())
    in.fail(in.at(), "the file ends before its tensor data begins, at byte " + std::to_string(start), "download it again");
  uint64_t room = file.size() - start;
  for (auto& row : rows) {
    std::string tensor = "tensor " + in_quotes(row.named.name), offset = std::to_string(row.offset);
    if (row.offset % alignment) in.fail(row.at, tensor + " lies at offset " + offset + ", not a multiple of " + std::to_string(alignment));
    if (row.offset > room || row.bytes > room - row.offset)
      in.fail(row.at, tensor + " (" + std::to_string(row.bytes) + " bytes at offset " + offset + ") reaches beyond the end of the file",
              "the file is damaged or cut short; download it again");
    if (row.offset != expected)
      in.fail(row.at, tensor + " lies at offset " + offset +
                          (row.offset < expected ? ", overlapping the tensor before it" : ", leaving a gap before it"));
    row.named.tensor.bytes = file.subspan(start + row.offset, row.bytes);
    expected = align_up(row.offset + row.bytes, alignment);  // no overflow: both are within the file
  }
}

void read_start(Cursor& in) {
  if (in.left() < 24)
    in.fail(0, in.left() == 0 ? "the file is empty" : "the file has " + std::to_string(in.left()) + " bytes; a GGUF header alone has 24",
            "download it again");
  auto magic = in.take(4, "the magic");
  if (std::memcmp(magic.data(), "GGUF", 4) != 0) in.fail(0, "this is not a GGUF file (it does not begin with \"GGUF\")");
  uint32_t version = in.get<uint32_t>("the version");
  if ((version & 0xffff) == 0 && version != 0)
    in.fail(4, "this GGUF was written for big-endian machines", "convert it with gguf's gguf-convert-endian");
  if (version != 2 && version != 3) in.fail(4, "GGUF version " + std::to_string(version) + " is not 2 or 3");
}

}  // namespace

Gguf::Gguf(const fs::path& path) : path_(path), paths_{path}, decoded_(std::make_unique<Decoded>()) {
  open_part(path, files_.emplace_back(path).bytes());
  auto count = integer("split.count").value_or(1);
  if (count != 1) open_rest_of_set(uint64_t(count));
}

Gguf::Gguf(Parts parts)
    : path_(std::move(parts.path)),
      files_(std::move(parts.files)),
      head_(std::make_unique<const std::string>(std::move(parts.head))),
      made_(std::move(parts.made)),
      decoded_(std::make_unique<Decoded>()) {
  open_part(path_, std::as_bytes(std::span(*head_)));
  for (NamedTensor& t : parts.tensors) {
    if (!index_.emplace(t.name, tensors_.size()).second) throw refused(path_.string(), "tensor " + in_quotes(t.name) + " appears twice");
    tensors_.push_back(std::move(t));
  }
}

Gguf::~Gguf() = default;
Gguf::Gguf(Gguf&&) noexcept = default;
Gguf& Gguf::operator=(Gguf&&) noexcept = default;

// Parses one file; metadata is kept from the first only.
void Gguf::open_part(const fs::path& path, std::span<const std::byte> file) {
  Cursor in(path, file);
  read_start(in);
  uint64_t n_tensors = in.get<uint64_t>("the tensor count"), n_values = in.get<uint64_t>("the metadata count");
  // a tensor takes at least 33 bytes of table, a value 14 of metadata
  if (n_tensors > in.left() / 33)
    in.fail(8, "the file claims " + std::to_string(n_tensors) + " tensors but has only " + std::to_string(file.size()) + " bytes");
  if (n_values > in.left() / 14)
    in.fail(16, "the file claims " + std::to_string(n_values) + " metadata values but has only " + std::to_string(file.size()) + " bytes");
  std::vector<Raw> metadata;
  std::map<std::string, size_t, std::less<>> keys;
  uint64_t elements = 0;
  for (uint64_t i = 0; i < n_values; i++) {
    uint64_t at = in.at();
    metadata.push_back(read_value(in, elements));
    if (!keys.emplace(metadata.back().key, i).second) in.fail(at, "metadata key " + in_quotes(metadata.back().key) + " appears twice");
  }
  std::vector<TableRow> rows;
  for (uint64_t i = 0; i < n_tensors; i++) {
    rows.push_back(read_row(in));
    if (!index_.emplace(rows.back().named.name, tensors_.size() + i).second)
      in.fail(rows.back().at, "tensor " + in_quotes(rows.back().named.name) + " appears twice");
  }
  place_tensors(in, file, rows, read_alignment(in, metadata));
  for (auto& row : rows) tensors_.push_back(std::move(row.named));
  raw_ = std::move(metadata);
  keys_ = std::move(keys);
}

// Split sets are named NAME-00001-of-00003.gguf; every part says which one it is.
void Gguf::open_rest_of_set(uint64_t count) {
  std::string stem = path_.stem().string();
  auto five = [](uint64_t n) { return (std::string(5, '0') + std::to_string(n)).substr(std::to_string(n).size()); };
  auto no = integer("split.no").value_or(-1);
  if (count < 2 || count > 9999 || no < 0 || uint64_t(no) >= count)
    throw refused(path_.string(),
                  "split.no " + std::to_string(no) + " of split.count " + std::to_string(int64_t(count)) + " makes no sense");
  std::string ending = "-" + five(uint64_t(no) + 1) + "-of-" + five(count);
  if (!stem.ends_with(ending))
    throw refused(path_.string(), "is part " + std::to_string(no + 1) + " of a set of " + std::to_string(count),
                  "name the parts NAME" + ending + path_.extension().string());
  std::string base = stem.substr(0, stem.size() - ending.size());
  auto total = integer("split.tensors.count");
  paths_.clear(), files_.clear(), tensors_.clear(), index_.clear();
  files_.reserve(count);
  std::vector<Raw> first_raw;
  decltype(keys_) first_keys;
  for (uint64_t i = 0; i < count; i++) {
    fs::path part = path_.parent_path() / (base + "-" + five(i + 1) + "-of-" + five(count) + path_.extension().string());
    std::error_code missing;
    if (!fs::exists(part, missing)) throw refused(part.string(), "this part of a set of " + std::to_string(count) + " is missing");
    paths_.push_back(part);
    open_part(part, files_.emplace_back(part).bytes());
    if (integer("split.no") != int64_t(i) || integer("split.count") != int64_t(count))
      throw refused(part.string(), "is not part " + std::to_string(i + 1) + " of this set");
    if (i == 0) first_raw = std::move(raw_), first_keys = std::move(keys_);
  }
  raw_ = std::move(first_raw);
  keys_ = std::move(first_keys);
  if (total && uint64_t(*total) != tensors_.size())
    throw refused(path_.string(), "the set should have " + std::to_string(*total) + " tensors but has " + std::to_string(tensors_.size()));
}

uint64_t Gguf::file_bytes() const {
  uint64_t sum = 0;
  for (const auto& file : files_) sum += file.bytes().size();
  return sum;
}

const Tensor* Gguf::find(const std::string& name) const {
  auto it = index_.find(name);
  return it == index_.end() ? nullptr : &tensors_[it->second].tensor;
}

const Tensor& Gguf::tensor(const std::string& name) const {
  if (const Tensor* t = find(name)) return *t;
  throw refused(path_.string(), "tensor " + in_quotes(name) + " is missing");
}

}  // namespace fettle
