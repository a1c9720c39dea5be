// GGUF files (v2, v3): read by mapping, written in table order. Every size is checked against the file before it is used; a file is hostile
// until Gguf's constructor returns. Metadata stays in the mapping and is decoded when it is asked for, so that opening a model costs a walk
// over its vocabulary and no copy of it. Source: ggml's docs/gguf.md. Not handled: a file that someone shortens while it is mapped (the
// kernel answers the next read with SIGBUS; fettle itself only ever replaces files by renaming).
#pragma once
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "base/base.h"
#include "tensor/tensor.h"

namespace fettle {

struct GgufValue;
using GgufArray = std::vector<GgufValue>;
// One metadata value: u8..u64 hold uint64_t, i8..i64 int64_t, f32 and f64 double.
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

// One expert's weight by itself is "blk.3.ffn_gate.17.weight"; GGUF stacks the experts of a block, outermost dimension first, as
// "blk.3.ffn_gate_exps.weight". Everything that names a linear uses the former. What belongs to a weight has its name and an ending
// (".lora_a").
struct ExpertPlace {
  std::string stack;
  int expert = 0;
};
std::optional<ExpertPlace> expert_place(std::string_view name);  // nullopt: no expert's
std::string expert_name(std::string_view stack, int expert);     // empty: no stack's name
// One expert's part of a stack (experts, out, in).
Tensor expert_of(const Tensor& stack, int expert);

class Gguf {
 public:
  // Throws Error{refused} naming the path, the byte offset and what is wrong. A file of a split set (NAME-00001-of-00003.gguf) opens the
  // whole set: its tensors follow one another, the metadata is the first file's.
  explicit Gguf(const fs::path& path);
  // A model that does not lie on disk as a GGUF: its metadata as GgufWriter::head() encodes them, its tensors under GGUF's names, which are
  // views into `files` or `made`. Error{refused}: a name occurs twice.
  struct Parts {
    fs::path path;  // for errors
    std::string head;
    std::vector<MappedFile> files;
    std::vector<std::vector<std::byte>> made;
    std::vector<NamedTensor> tensors;
  };
  explicit Gguf(Parts parts);
  ~Gguf();
  Gguf(Gguf&&) noexcept;
  Gguf& operator=(Gguf&&) noexcept;

  const fs::path& path() const { return path_; }
  const std::vector<fs::path>& paths() const { return paths_; }  // of its files: more than one in a split set, none when made of parts
  uint64_t file_bytes() const;
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  const Tensor* find(const std::string& name) const;
  const Tensor& tensor(const std::string& name) const;  // Error{refused} when absent
  // Everything decoded, arrays included (on the first call; safe from several threads). The typed getters below are cheaper.
  const std::map<std::string, GgufValue>& metadata() const;
  bool has(const std::string& key) const { return keys_.count(key) != 0; }

  // Typed getters; any integer type will do where an integer is asked, any number where a real is. Error{refused} on a wrong type, a value
  // that does not fit, a real that is not finite.
  std::optional<int64_t> integer(const std::string& key) const;
  std::optional<double> real(const std::string& key) const;
  std::optional<bool> boolean(const std::string& key) const;
  std::optional<std::string> string(const std::string& key) const;
  std::vector<std::string> strings(const std::string& key) const;  // empty when absent
  std::vector<double> numbers(const std::string& key) const;  // integer or float arrays (a lone number: one element); empty when absent

  // One metadata value as it lies in the file: what a copy needs.
  struct Raw {
    std::string key;
    GgufValue::Type type, element;     // element: of an array
    uint64_t count;                    // elements of an array, else 1
    std::span<const std::byte> bytes;  // the value; of an array, its elements
    uint64_t offset;                   // of `bytes` in the file, for errors
  };
  const std::vector<Raw>& raw_metadata() const { return raw_; }  // in file order

  // Takes a tensor's bytes out of the process's memory, where they are this file's: they come back when they are read.
  void forget(const Tensor& tensor) const {
    for (const MappedFile& file : files_) file.forget(tensor.bytes);
  }

 private:
  struct Decoded;
  const Raw* raw(const std::string& key) const;
  std::string place_of(const Raw& raw) const;  // for errors
  void open_part(const fs::path& path, std::span<const std::byte> file);
  void open_rest_of_set(uint64_t count);
  fs::path path_;
  std::vector<fs::path> paths_;
  std::vector<MappedFile> files_;
  std::unique_ptr<const std::string> head_;  // of a model made of parts
  std::vector<std::vector<std::byte>> made_;
  std::vector<NamedTensor> tensors_;
  std::map<std::string, size_t, std::less<>> index_;
  std::vector<Raw> raw_;
  std::map<std::string, size_t, std::less<>> keys_;
  std::unique_ptr<Decoded> decoded_;
};

// Writes a GGUF v3 atomically. Tensors are produced one at a time, so a file larger than memory can be written.
class GgufWriter {
 public:
  void set(const std::string& key, const GgufValue& value);  // replaces
  void set_integer(const std::string& key, uint32_t value);
  void set_real(const std::string& key, float value);
  void set_string(const std::string& key, const std::string& value);
  void set_strings(const std::string& key, const std::vector<std::string>& values);
  void erase(const std::string& key);
  // Copies all metadata of another file, replacing keys already set (not general.alignment and split.*, which describe that file alone).
  void copy_metadata(const Gguf& from);
  // Experts that are added by themselves, all of a block and of one format and shape, are written as the stack that they are.
  // Adds a tensor to the table; `bytes` is called once, when the file is written, and must return shape/format's exact byte count (the
  // buffer needs to live only until the next call). The row length must be a multiple of the format's block.
  void add(const std::string& name, const Format* format, Shape shape, std::function<std::span<const std::byte>()> bytes);
  // Everything before the tensors' bytes, without the padding that ends it.
  std::string head() const;
  // How long the file will be.
  uint64_t file_bytes() const;
  // Error{failed} when the disk does not take it (what stood at `path` stays), Error{refused} for names that GGUF cannot hold.
  void write(const fs::path& path);

 private:
  struct Item {
    std::string key;
    std::string encoded;  // type and value as they go into the file
  };
  std::string& slot(const std::string& key);
  struct Entry {
    std::string name;
    const Format* format;
    Shape shape;
    std::function<std::span<const std::byte>()> bytes;
  };
  // A tensor of the file: an entry, or the stack of several.
  struct Written {
    std::string name;
    Shape shape;
    std::vector<const Entry*> parts;
    uint64_t bytes() const;
  };
  std::vector<Written> table() const;
  std::string head(const std::vector<Written>& table) const;
  std::vector<Item> metadata_;
  std::unordered_map<std::string, size_t> places_;  // of keys in metadata_
  std::vector<Entry> tensors_;
};

}  // namespace fettle
