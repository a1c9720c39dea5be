// GGUF files (v2, v3): read by mapping, written in table order. Every size is checked against the file before it is used; a file is hostile
// until Gguf's constructor returns. Source: ggml's docs/gguf.md.
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "base/base.h"
#include "tensor/tensor.h"

namespace fettle {

struct GgufValue;
using GgufArray = std::vector<GgufValue>;
// One metadata value. Strings of large arrays are kept as views into the file by Gguf::strings() instead.
struct GgufValue {
  enum class Type : uint32_t { u8, i8, u16, i16, u32, i32, f32, boolean, string, array, u64, i64, f64 };
  Type type = Type::u32;
  Type element = Type::u32;  // of an array
  std::variant<uint64_t, int64_t, double, bool, std::string, GgufArray> value;
};

struct NamedTensor {
  std::string name;
  Tensor tensor;
};

class Gguf {
 public:
  // Throws Error{refused} naming the path, the byte offset and what is wrong.
  explicit Gguf(const fs::path& path);

  const fs::path& path() const { return path_; }
  uint64_t file_bytes() const { return file_.bytes().size(); }
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  const Tensor* find(const std::string& name) const;
  const Tensor& tensor(const std::string& name) const;  // Error{refused} when absent
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  bool has(const std::string& key) const { return metadata_.count(key) != 0; }

  // Typed getters; any integer type will do where an integer is asked. Error{refused} on a wrong type or a value that does not fit.
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> real(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> string(const std::string& key) const;
  std::vector<std::string> strings(const std::string& key) const;  // empty when absent
  std::vector<double> numbers(const std::string& key) const;       // integer or float arrays; empty when absent

 private:
  fs::path path_;
  MappedFile file_;
  std::vector<NamedTensor> tensors_;
  std::map<std::string, size_t> index_;
  std::map<std::string, GgufValue> metadata_;
};

// Writes a GGUF v3 atomically. Tensors are produced one at a time, so a file larger than memory can be written.
class GgufWriter {
 public:
  void set(const std::string& key, GgufValue value);  // replaces
  void set_integer(const std::string& key, uint32_t value);
  void set_real(const std::string& key, float value);
  void set_string(const std::string& key, const std::string& value);
  void set_strings(const std::string& key, const std::vector<std::string>& values);
  void erase(const std::string& key);
  // Copies all metadata of another file.
  void copy_metadata(const Gguf& from);
  // Adds a tensor to the table; `bytes` is called once, when the file is written, and must return shape/format's exact byte count (the
  // buffer needs to live only until the next call).
  void add(const std::string& name, const Format* format, Shape shape, std::function<std::span<const std::byte>()> bytes);
  void write(const fs::path& path);

 private:
  struct Entry {
    std::string name;
    const Format* format;
    Shape shape;
    std::function<std::span<const std::byte>()> bytes;
  };
  std::vector<std::pair<std::string, GgufValue>> metadata_;
  std::vector<Entry> tensors_;
};

}  // namespace fettle
