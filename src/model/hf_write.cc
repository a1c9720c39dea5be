// A GGUF as a folder that Hugging Face's libraries read: config.json, the weights in safetensors (in shards where they are large), the
// tokenizer's files. Names, row order and norms go the way back that hf_folder.cc came. One tensor is in memory at a time; the folder is
// filled under another name and renamed when it is whole.
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "base/json_text.h"
#include "format/format.h"
#include "model/hf_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

std::string dtype_name(const Format& f) {
  const std::string_view name = f.name;
  return name == "F32" ? "float32" : name == "F16" ? "float16" : "bfloat16";
}

// One tensor of the folder.
struct Piece {
  std::string name, gguf, source;  // gguf: without the stack that it may be a part of, which is the source then
  Tensor tensor;                   // GGUF's, or an expert's part of it
  int64_t heads = 0;               // > 0: rows are in the order that GGUF has for so many heads
  float shift = 0;                 // what its values have more than the folder's
};

class Pieces {
 public:
  Pieces(const Gguf& file, const Architecture& architecture) : file_(file), family_(*architecture.hf), names_(family_) {
    const std::string arch = std::string(architecture.name) + ".attention.head_count";
    heads_ = file.integer(arch).value_or(1);
    kv_heads_ = file.integer(arch + "_kv").value_or(heads_);
    for (const NamedTensor& t : file.tensors()) take(t);
  }
  std::vector<Piece> pieces;

 private:
  void take(const NamedTensor& t) {
    // numbers of config.json
    if (t.name == "rope_freqs.weight" || t.name.starts_with("rope_factors_")) return;
    if (t.tensor.shape.n != 3 || expert_name(t.name, 0).empty()) return add(t.name, t.name, t.tensor);
    for (int e = 0; e < t.tensor.shape.dim[0]; e++) add(t.name, expert_name(t.name, e), expert_of(t.tensor, e));
  }

  // One tensor by the name that GGUF has for it; source: where it lies in the file.
  void add(const std::string& source, const std::string& gguf, const Tensor& tensor) {
    const size_t dot = gguf.rfind('.');
    const std::string module = gguf.substr(0, dot), kind = dot == gguf.npos ? "" : gguf.substr(dot);
    const auto name = kind == ".weight" || kind == ".bias" ? names_.hf(module) : std::nullopt;
    if (!name)
      throw refused(file_.path().string() + ": tensor " + source, "has no name in a folder of " + std::string(family_.model_types[0]));
    const int64_t heads = !family_.permuted ? 0 : module.ends_with(".attn_q") ? heads_ : module.ends_with(".attn_k") ? kv_heads_ : 0;
    if (heads > 0 && (tensor.shape.n == 1 ? tensor.shape.count() : tensor.shape.rows()) % (2 * heads))
      throw refused(file_.path().string() + ": tensor " + source, "has rows that " + std::to_string(heads) + " heads do not divide");
    pieces.push_back(
        {*name + kind, module + kind, source, tensor, heads, module.ends_with("norm") && kind == ".weight" ? family_.norm_shift : 0});
  }

  const Gguf& file_;
  const HfFamily& family_;
  const HfNames names_;
  int64_t heads_, kv_heads_;
};

// The piece's numbers as `type`, rows in the folder's order.
void fill(const Piece& piece, const Format& type, const std::string& place, std::vector<std::byte>& out) {
  const Tensor& t = piece.tensor;
  const bool vector = t.shape.n == 1;
  // a bias of q or k is a column: its rows are single numbers
  const int64_t rows = vector && piece.heads ? t.shape.count() : t.shape.rows(), cols = t.shape.count() / rows;
  const size_t row_bytes = size_t(type.bytes_for(cols));
  out.resize(size_t(rows) * row_bytes);
  std::vector<float> values(static_cast<size_t>(cols));
  for (int64_t r = 0; r < rows; r++) {
    std::byte* to = out.data() + size_t(piece.heads ? half_split_row(r, rows / piece.heads) : r) * row_bytes;
    const std::byte* from = t.bytes.data() + r * t.format->bytes_for(cols);
    const auto finite = [&] { return std::ranges::all_of(values, [](float v) { return std::isfinite(v); }); };
    t.format->decode(from, values.data(), cols);
    if (!finite()) throw not_finite(place);
    if (t.format == &type && piece.shift == 0) {
      std::memcpy(to, from, row_bytes);
      continue;
    }
    for (float& v : values) v -= piece.shift;
    type.encode(values.data(), to, cols, nullptr);
    type.decode(to, values.data(), cols);
    if (!finite()) throw refused(place, std::string("holds weights that are too large for ") + type.name, "F32 or BF16 may hold them");
  }
}

// Whether it is packed: the linears of blocks, but for the routers of experts, and experts where nobody would read them.
bool is_packed(const Piece& p, const WeightPacker* packer) {
  if (!packer || (expert_place(p.gguf) && !packer->experts())) return false;
  return p.gguf.starts_with("blk.") && p.gguf.ends_with(".weight") && p.tensor.shape.n == 2 && p.gguf.find("_inp.") == p.gguf.npos;
}

// The weight's tensors as the packer makes them.
std::vector<std::vector<std::byte>> packed(const Piece& piece, const HfWriteOptions& options, const std::string& place) {
  Piece grid = piece;
  std::vector<std::byte> blocks, rows;
  const Format* format = options.packer->format();
  if (format) {
    blocks = options.encode({piece.gguf, piece.tensor});
    grid.tensor = {format, piece.tensor.shape, blocks};
  } else {
    format = find_format("F32");
  }
  fill(grid, *format, place, rows);
  return options.packer->pack({format, piece.tensor.shape, rows});
}

// The tensors of the weight that is being written; the next one takes their place.
struct Written {
  std::string name;
  std::vector<std::vector<std::byte>> parts;
};

// A packed weight's tensors as items of a file, all made when the first one is written.
std::vector<SafetensorsItem> packed_items(const Piece& p, const HfWriteOptions& options, const std::string& place, Written& written) {
  std::vector<WeightPacker::Part> parts;
  try {
    parts = options.packer->parts(p.tensor.shape);
  } catch (const Error& e) {
    throw Error(e.code, place, e.what(), e.hint);
  }
  std::vector<SafetensorsItem> items;
  for (size_t i = 0; i < parts.size(); i++)
    items.push_back({p.name.substr(0, p.name.rfind('.') + 1) + parts[i].name, parts[i].dtype, parts[i].shape,
                     [&options, &written, p, place, i]() -> std::span<const std::byte> {
                       if (written.name != p.name) written = {p.name, packed(p, options, place)};
                       return written.parts[i];
                     }});
  return items;
}

std::string five(size_t n) { return (std::string(5, '0') + std::to_string(n)).substr(std::to_string(n).size()); }

// A folder that is filled under another name: renamed by commit(), else gone.
class AtomicFolder {
 public:
  explicit AtomicFolder(const fs::path& path) : path_(path), temporary_(path.string() + ".tmp-" + std::to_string(::getpid())) {
    std::error_code error;
    fs::remove_all(temporary_, error);
    fs::create_directory(temporary_, error);
    if (error) throw failed(temporary_.string(), "cannot be made: " + error.message());
  }
  ~AtomicFolder() {
    std::error_code ignored;
    fs::remove_all(temporary_, ignored);
  }
  AtomicFolder(const AtomicFolder&) = delete;
  AtomicFolder& operator=(const AtomicFolder&) = delete;
  const fs::path& inside() const { return temporary_; }
  void commit() {
    std::error_code error;
    const fs::path old = path_.string() + ".removed-" + std::to_string(::getpid());
    const bool was = fs::exists(path_, error);
    if (was) fs::rename(path_, old, error);
    if (!error) fs::rename(temporary_, path_, error);
    if (error) {
      const std::string why = error.message();
      if (was) fs::rename(old, path_, error);
      throw failed(path_.string(), "could not be put in place: " + why);
    }
    fs::remove_all(old, error);
  }

 private:
  fs::path path_, temporary_;
};

void write_json(const fs::path& path, const Json& json) {
  write_text(path, json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

// A folder as it is to be: its settings, and its files' items, whose bytes are made one after another.
class FolderPlan {
 public:
  FolderPlan(const Gguf& file, const HfWriteOptions& options) : options_(options) {
    const std::string place = file.path().string(), name = model_architecture(file);
    const Architecture* architecture = architecture_named(name);
    if (!architecture || !architecture->hf) throw refused(place, "architecture '" + name + "' is not written as a Hugging Face folder");
    CHECK(options.type->group == 0 && options.type->encode, "weights in a folder are floats");
    config = hf_config(file, *architecture, dtype_name(*options.type));
    if (options.packer) config["quantization_config"] = options.packer->config();
    const std::vector<Piece> pieces = Pieces(file, *architecture).pieces;
    for (const Piece& p : pieces) total_ += p.tensor.bytes.size();
    for (const Piece& p : pieces) take(p, place + ": tensor " + p.source);
  }
  FolderPlan(const FolderPlan&) = delete;  // items hold on to it
  FolderPlan& operator=(const FolderPlan&) = delete;

  Json config;
  std::vector<std::vector<SafetensorsItem>> shards = std::vector<std::vector<SafetensorsItem>>(1);
  HfWritten written;

 private:
  void take(const Piece& p, const std::string& place) {
    std::vector<SafetensorsItem> items;
    if (is_packed(p, options_.packer))
      items = packed_items(p, options_, place, packed_);
    else
      items.push_back({p.name, options_.type->name, p.tensor.shape, [this, p, place]() -> std::span<const std::byte> {
                         fill(p, *options_.type, place, buffer_);
                         return buffer_;
                       }});
    uint64_t bytes = 0;
    for (const SafetensorsItem& item : items) bytes += item.size();
    if (in_shard_ > 0 && in_shard_ + bytes > options_.shard_bytes) shards.emplace_back(), in_shard_ = 0;
    in_shard_ += bytes;
    written.bytes += bytes;
    for (SafetensorsItem& item : items) {
      const uint64_t share = &item == &items.back() ? p.tensor.bytes.size() : 0;
      shards.back().push_back(
          {item.name, item.dtype, item.shape, [this, write = std::move(item.bytes), share]() -> std::span<const std::byte> {
             stop_if_interrupted();
             const auto made = write();
             done_ += share;
             if (options_.progress) options_.progress(done_, total_);
             return made;
           }});
      written.tensors++;
    }
  }

  const HfWriteOptions& options_;
  uint64_t in_shard_ = 0, done_ = 0, total_ = 0;
  std::vector<std::byte> buffer_;  // of the tensor that is being written
  Written packed_;
};

}  // namespace

const Format* hf_format(const Gguf& file) {
  std::map<const Format*, int64_t> weights;
  for (const NamedTensor& t : file.tensors())
    if (t.tensor.shape.n > 1) weights[t.tensor.format] += t.tensor.shape.count();
  const auto most = std::ranges::max_element(weights, {}, [](const auto& w) { return w.second; });
  return most != weights.end() && most->first->group == 0 ? most->first : find_format("F16");
}

HfWritten plan_hf(const Gguf& file, const HfWriteOptions& options) { return FolderPlan(file, options).written; }

HfWritten write_hf(const Gguf& file, const fs::path& folder, const HfWriteOptions& options) {
  FolderPlan plan(file, options);
  AtomicFolder out(folder);
  write_json(out.inside() / "config.json", plan.config);
  write_hf_tokenizer(file, out.inside());
  write_hf_pooling(file, out.inside());
  const auto& shards = plan.shards;
  Json map = Json::object();
  for (size_t i = 0; i < shards.size(); i++) {
    const std::string file_name =
        shards.size() == 1 ? "model.safetensors" : "model-" + five(i + 1) + "-of-" + five(shards.size()) + ".safetensors";
    for (const SafetensorsItem& item : shards[i]) map[item.name] = file_name;
    write_safetensors(out.inside() / file_name, shards[i]);
  }
  if (shards.size() > 1)
    write_json(out.inside() / "model.safetensors.index.json", {{"metadata", {{"total_size", plan.written.bytes}}}, {"weight_map", map}});
  out.commit();
  return plan.written;
}

}  // namespace fettle
