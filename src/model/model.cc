// Opening a model and what every architecture shares: configuration checks, embedding and head, adapters.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/decoder.h"
#include "model/hf_folder.h"

namespace fettle {

#define X(name) extern const Architecture name##_architecture;
#include "architectures.inc"
#undef X

std::span<const Architecture* const> architectures() {
  static const Architecture* const all[] = {
#define X(name) &name##_architecture,
#include "architectures.inc"
#undef X
  };
  return all;
}

std::string model_architecture(const Gguf& file) {
  const std::string place = file.path().string(), kind = file.string("general.type").value_or("model");
  if (kind != "model")
    throw refused(place, "this GGUF is of type '" + kind + "', not a model", kind == "adapter" ? "merge it into its base first" : "");
  const std::optional<std::string> name = file.string("general.architecture");
  if (!name) throw refused(place, "no general.architecture: this GGUF is not a language model");
  return *name;
}

const Architecture* architecture_named(std::string_view name) {
  const auto all = architectures();
  const auto found = std::find_if(all.begin(), all.end(), [&](const Architecture* a) { return name == a->name; });
  return found == all.end() ? nullptr : *found;
}

namespace {

const Architecture& find_architecture(const Gguf& file) {
  const std::string name = model_architecture(file);
  if (const Architecture* a = architecture_named(name)) return *a;
  std::string known;
  for (const Architecture* a : architectures()) known += (known.empty() ? "" : ", ") + std::string(a->name);
  throw refused(file.path().string(), "architecture '" + name + "' is not supported", "fettle knows " + known);
}

int bounded(const Gguf& file, const std::string& key, std::optional<int64_t> value, int64_t low, int64_t high) {
  if (!value) throw refused(file.path().string(), key + " is missing");
  if (*value < low || *value > high)
    throw refused(file.path().string(),
                  key + " is " + std::to_string(*value) + ", expected " + std::to_string(low) + " to " + std::to_string(high));
  return int(*value);
}

// The numbers every decoder-only transformer has, under "ARCH." keys.
void configure_common(const Gguf& file, Config& c) {
  const std::string arch = c.architecture + ".";
  const auto integer = [&](const std::string& key, int64_t high) { return bounded(file, arch + key, file.integer(arch + key), 1, high); };
  const auto optional = [&](const std::string& key, int64_t fallback, int64_t high) {
    return bounded(file, arch + key, file.integer(arch + key).value_or(fallback), 1, high);
  };
  c.layers = integer("block_count", 1024);
  c.d_model = integer("embedding_length", 1 << 20);
  c.heads = integer("attention.head_count", 4096);
  c.kv_heads = optional("attention.head_count_kv", c.heads, c.heads);
  c.context = int(std::clamp<int64_t>(file.integer(arch + "context_length").value_or(2048), 1, kMaxContext));
  c.d_ff = optional("feed_forward_length", 4 * int64_t(c.d_model), 1 << 24);
  const std::string place = file.path().string();
  if (c.heads % c.kv_heads) throw refused(place, arch + "attention.head_count is no multiple of head_count_kv");
  if (!file.has(arch + "attention.key_length") && c.d_model % c.heads)
    throw refused(place, arch + "embedding_length is no multiple of attention.head_count");
  c.head_dim = optional("attention.key_length", c.d_model / c.heads, 1024);
  c.rope_dims = optional("rope.dimension_count", c.head_dim, c.head_dim);
  if (c.rope_dims % 2) throw refused(place, arch + "rope.dimension_count is odd");
  c.rope_base = float(file.real(arch + "rope.freq_base").value_or(10000));
  c.norm_epsilon =
      float(file.real(arch + "attention.layer_norm_rms_epsilon").value_or(file.real(arch + "attention.layer_norm_epsilon").value_or(1e-5)));
  c.causal = file.boolean(arch + "attention.causal").value_or(true);
  const int64_t pooling = file.integer(arch + "pooling_type").value_or(0);
  if (pooling < 0 || pooling > 3)
    throw refused(place, arch + "pooling_type is " + std::to_string(pooling) + ", which is not supported", "1: mean, 2: first, 3: last");
  c.pooling = pooling ? Pooling(pooling - 1) : c.causal ? Pooling::last : Pooling::mean;
  if (!(c.rope_base > 1 && std::isfinite(c.rope_base)) || !(c.norm_epsilon > 0 && c.norm_epsilon < 1))
    throw refused(place, "impossible rope base or norm epsilon");
}

}  // namespace

Linear load_linear(Model& model, const std::string& name, int out, int in) {
  const Gguf& file = *model.file;
  const Tensor& t = file.tensor(name);
  model.loaded.insert(name);
  if (t.shape != Shape{out, in})
    throw refused(file.path().string() + ": tensor " + name, "has shape " + t.shape.text() + ", expected " + Shape{out, in}.text());
  return Linear(name, t);
}

Error not_finite(const std::string& place) {
  return refused(place, "holds weights that are not finite", "the file is damaged, or its training diverged");
}

const float* load_vector(Model& model, const std::string& name, int n) {
  const Gguf& file = *model.file;
  const Tensor& t = file.tensor(name);
  model.loaded.insert(name);
  if (t.shape.count() != n || t.shape.cols() != n || std::string(t.format->name) != "F32")
    throw refused(file.path().string() + ": tensor " + name,
                  std::string("is ") + t.format->name + " " + t.shape.text() + ", expected F32 " + std::to_string(n));
  const float* values = reinterpret_cast<const float*>(t.bytes.data());
  if (!std::all_of(values, values + n, [](float v) { return std::isfinite(v); }))
    throw not_finite(file.path().string() + ": tensor " + name);
  return values;
}

namespace {

// Of a model whose file is open.
void build(Model& model) {
  const Gguf& file = *model.file;
  const std::string path = file.path().string();
  const Architecture& architecture = find_architecture(file);
  Config& c = model.config;
  c.architecture = architecture.name;
  configure_common(file, c);
  model.tokenizer = std::make_unique<Tokenizer>(read_tokenizer_spec(file));
  const Tensor& table = file.tensor("token_embd.weight");
  if (table.shape.n != 2) throw refused(path + ": tensor token_embd.weight", "has shape " + table.shape.text());
  c.vocabulary = int(std::min<int64_t>(table.shape.rows(), 1 << 30));
  if (model.tokenizer->size() > c.vocabulary)
    throw refused(path, "the vocabulary has " + std::to_string(model.tokenizer->size()) + " tokens but the embedding only " +
                            std::to_string(c.vocabulary) + " rows");
  model.embedding = load_linear(model, "token_embd.weight", c.vocabulary, c.d_model);
  c.tied = c.causal && !file.find("output.weight");
  if (c.causal) model.head = load_linear(model, c.tied ? "token_embd.weight" : "output.weight", c.vocabulary, c.d_model);
  if (c.causal && file.find("output.bias")) model.head.bias = load_vector(model, "output.bias", c.vocabulary);
  if (std::optional<std::string> source = read_chat_template(file))
    model.chat_template = std::make_unique<ChatTemplate>(*source, path + ": chat template");
  model.network = architecture.build(model);
  for (const NamedTensor& t : file.tensors())
    if (!model.loaded.count(t.name))
      throw refused(path + ": tensor " + t.name, std::string("is no part of a ") + architecture.name + " as fettle runs it",
                    "running the model without it would give wrong answers");
}

// The error in the words of whoever has the file: a folder has other names than a GGUF.
Error in_its_words(const Error& error, const Gguf& file) {
  std::error_code ignored;
  const Architecture* a =
      fs::is_directory(file.path(), ignored) ? architecture_named(file.string("general.architecture").value_or("")) : nullptr;
  return a && a->hf ? in_folder_words(error, file.path(), *a) : error;
}

}  // namespace

std::shared_ptr<Model> Model::open(const fs::path& path) {
  auto model = std::make_shared<Model>();
  model->file = std::make_unique<Gguf>(open_model_file(path));
  try {
    build(*model);
  } catch (const Error& error) {
    throw in_its_words(error, *model->file);
  }
  return model;
}

Error Model::why_not_finite() const {
  for (const NamedTensor& t : file->tensors()) {
    const int64_t cols = t.tensor.shape.cols(), row_bytes = t.tensor.format->bytes_for(cols);
    std::vector<float> row(static_cast<size_t>(cols));
    for (int64_t r = 0; r < t.tensor.shape.rows(); r++) {
      t.tensor.format->decode(t.tensor.bytes.data() + r * row_bytes, row.data(), cols);
      if (!std::all_of(row.begin(), row.end(), [](float v) { return std::isfinite(v); }))
        return in_its_words(not_finite(file->path().string() + ": tensor " + t.name), *file);
    }
  }
  return failed(file->path().string(), "the model computed numbers that are not finite");
}

bool Model::same_tokens(const Model& other) const {
  const TokenizerSpec &a = tokenizer->spec(), &b = other.tokenizer->spec();
  return a.tokens == b.tokens && a.merges == b.merges;
}

Linear* Model::find_linear(const std::string& name) {
  for (Linear* l : linears())
    if (l->name == name) return l;
  return nullptr;
}

double Model::share_of_rows(const Linear& linear) const {
  return expert_place(linear.name) ? double(config.experts_used) / config.experts : 1;
}

int64_t Model::parameters() const {
  int64_t n = 0;
  for (const NamedTensor& t : file->tensors()) n += t.tensor.shape.count();
  return n;
}

ChatFormat Model::chat_format() const {
  require_text();
  if (!chat_template)
    throw refused(file->path().string(), "the model has no chat template", "use a chat (instruct) model, or train on ready token ids");
  return ChatFormat(*tokenizer, *chat_template);
}

Var* Model::hidden(Run& run, const Batch& batch) {
  run.generated = batch.generated;
  return network->hidden(run, batch);
}

void Model::require_text() const {
  if (!config.causal)
    throw refused(file->path().string(), "is an encoder: it makes embeddings and writes no text",
                  "`fettle embed` turns texts into vectors");
}

Var* Model::logits(Run& run, const Batch& batch) {
  require_text();
  Var* states = hidden(run, batch);
  if (int(batch.wanted.size()) != batch.rows()) {
    states = gather_rows(run, states, batch.wanted);
    run.generated = int(std::lower_bound(batch.wanted.begin(), batch.wanted.end(), batch.generated) - batch.wanted.begin());
  }
  return linear(run, states, head);
}

void Model::prepare(Pool& pool, Precision precision, uint64_t memory) {
  const Linear::Use use = forward_use(precision);
  std::vector<const Linear*> all;
  for (const Linear* l : linears()) all.push_back(l);
  if (config.causal) all.push_back(&head);
  const int64_t bytes = missing_panel_bytes(all, use);
  if (uint64_t(bytes) > memory)
    throw refused(file->path().string(),
                  "its weights take " + format_bytes(double(bytes)) + " of memory, " + format_bytes(double(memory)) + " are free",
                  "a smaller type or model, or fewer programs beside it");
  make_panels(all, use, pool, [&](const Linear& l) { file->forget(l.weight); });  // the panels are what is read from now on
}

// What brings the rows of W + scale B A to the adapter's magnitudes.
static std::vector<float> row_scale(const Linear& l, const LoraPair& p, float scale, const std::string& place) {
  std::vector<float> factors(p.magnitude);
  std::vector<float> row(static_cast<size_t>(l.in));
  for (int64_t r = 0; r < l.out; r++) {
    l.weight.format->decode(l.weight.bytes.data() + r * l.weight.format->bytes_for(l.in), row.data(), l.in);
    for (int64_t k = 0; k < p.rank; k++) {
      const float factor = scale * p.b[size_t(r * p.rank + k)];
      for (int64_t c = 0; c < l.in; c++) row[size_t(c)] += factor * p.a[size_t(k * l.in + c)];
    }
    double squares = 0;
    for (float x : row) squares += double(x) * x;
    float& f = factors[size_t(r)];
    if (f != 0) f = float(f / std::sqrt(squares));
    if (!std::isfinite(f))
      throw refused(place, "adapter of " + p.name + ": row " + std::to_string(r) + " has no length to be brought to its magnitude");
  }
  return factors;
}

void Model::check_lora(const LoraFile& lora, const std::string& place) const {
  if (!lora.architecture.empty() && lora.architecture != config.architecture)
    throw refused(place, "the adapter is for '" + lora.architecture + "', the model is '" + config.architecture + "'");
  std::map<std::string, const Linear*> by_name;
  for (const Linear* l : network->linears()) by_name[l->name] = l;
  for (const LoraPair& p : lora.pairs) {
    auto found = by_name.find(p.name);
    if (found == by_name.end() && file->find(p.name))
      throw refused(place, "adapter for '" + p.name + "': linears inside blocks alone take adapters");
    if (found == by_name.end()) throw refused(place, "adapter for '" + p.name + "', which the model does not have");
    const Linear& l = *found->second;
    const bool fits = p.rank > 0 && p.in == l.in && p.out == l.out && p.a.size() == size_t(p.rank) * size_t(p.in) &&
                      p.b.size() == size_t(p.out) * size_t(p.rank) && (p.magnitude.empty() || p.magnitude.size() == size_t(p.out));
    if (!fits)
      throw refused(place, "adapter of " + p.name + " is " + Shape{p.out, p.in}.text() + " of rank " + std::to_string(p.rank) +
                               ", the model's tensor is " + Shape{l.out, l.in}.text());
  }
}

void Model::attach_lora(const LoraFile& lora, const std::string& place) {
  check_lora(lora, place);
  detach_lora();
  std::map<std::string, Linear*> by_name;
  for (Linear* l : linears()) by_name[l->name] = l;
  for (const LoraPair& p : lora.pairs) {
    auto adapter = std::make_unique<Adapter>();
    adapter->rank = p.rank;
    adapter->scale = lora.rank_stabilised ? lora.alpha / std::sqrt(float(p.rank)) : lora.alpha / float(p.rank);
    adapter->a = p.a;
    adapter->b = p.b;
    if (!p.magnitude.empty()) adapter->row_scale = row_scale(*by_name[p.name], p, adapter->scale, place);
    by_name[p.name]->adapter = std::move(adapter);
  }
}

void Model::detach_lora() {
  for (Linear* l : linears()) l->adapter.reset();
}

LoraFile Model::lora(float alpha) const {
  LoraFile lora;
  lora.alpha = alpha;
  lora.architecture = config.architecture;
  for (Linear* l : network->linears())
    if (l->adapter) lora.pairs.push_back({l->name, l->adapter->rank, l->in, l->out, l->adapter->a, l->adapter->b, {}});
  return lora;
}

}  // namespace fettle
