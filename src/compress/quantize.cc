// Quantizing a file: each matrix gets its type by the rules of a mix (rules.h) or by what it loses per byte (allocate.h), and is decoded,
// encoded and written before the next one is touched, so that memory holds one tensor's codes at a time.
#include <algorithm>
#include <cmath>
#include <set>

#include "compress/allocate.h"
#include "compress/rows.h"
#include "compress/rules.h"

namespace fettle {
namespace {

constexpr int64_t kTrialRows = 48;  // rows of a tensor on which formats are tried

struct Item {
  const NamedTensor* source = nullptr;
  const Format* target = nullptr;  // the source's own: copied as it is
  std::string asked;
  bool takes_part = false, overridden = false;
  ColumnWeights weights;
};

Error out_of_reach(const Gguf& file, uint64_t wanted, uint64_t least) {
  return refused(file.path().string(),
                 "no types make this model as small as " + format_bytes(double(wanted)) + "; the least is " + format_bytes(double(least)),
                 "ask for a larger size, or start from a smaller model");
}

struct Job {
  const Gguf& source;
  const QuantizeOptions& options;
  const Method& method;
  Pool& pool;
  const std::function<void(uint64_t, uint64_t)>& progress;
  Anatomy anatomy;
  std::vector<Item> items;
  std::vector<std::string> remarks;
  std::optional<Gguf> origin;
  std::vector<ImportanceEntry> measured;  // by the calibration
  uint64_t done = 0, total = 0;

  // The metric of a tensor's inputs lives while the tensor is worked on.
  InputKnowledge inputs_of(const Item& item) const {
    InputKnowledge k{item.weights, nullptr};
    const NamedTensor& t = *item.source;
    const bool wanted = options.calibration && method.uses_covariance && item.takes_part && t.tensor.shape.n == 2;
    const float* covariance = wanted ? options.calibration->covariance(t.name, pool) : nullptr;
    if (covariance) k.metric = std::make_shared<InputMetric>(covariance, int(t.tensor.shape.cols()), pool);
    return k;
  }
  const std::vector<ImportanceEntry>* importance() const {
    return options.importance ? options.importance : measured.empty() ? nullptr : &measured;
  }
  void advance(uint64_t bytes) {
    stop_if_interrupted();
    done += bytes;
    if (progress) progress(done, total);
  }
};

void check_source(const Gguf& file, const fs::path& target) {
  model_architecture(file);
  std::error_code ignored;
  if (fs::equivalent(file.path(), target, ignored))
    throw usage("source and target are the same file: " + file.path().string(), "name another target");
}

// The override whose pattern, a part of the tensor's name, is longest.
const std::string* override_of(const std::string& name, const std::map<std::string, std::string>& overrides, std::set<std::string>& used) {
  const std::string *best = nullptr, *pattern = nullptr;
  for (const auto& [part, type] : overrides) {
    if (name.find(part) == std::string::npos || part.empty()) continue;
    used.insert(part);
    if (pattern && pattern->size() >= part.size()) continue;
    pattern = &part;
    best = &type;
  }
  return best;
}

void make_items(Job& job) {
  std::set<std::string> used;
  for (const NamedTensor& t : job.source.tensors()) {
    const Format* kept = kept_format(t.tensor.format);
    Item item{&t, kept, kept->name, quantizable(t), false, {}};
    if (item.takes_part) {
      item.weights = column_weights(t, job.importance());
      if (const std::string* type = override_of(t.name, job.options.overrides, used)) {
        item.overridden = true;
        item.asked = *type;
        item.target = fitting(*type, t.tensor.shape.cols());
      }
    }
    job.total += t.tensor.bytes.size();
    job.items.push_back(std::move(item));
  }
  for (const auto& [part, type] : job.options.overrides)
    if (!used.count(part)) throw usage("no weight's name contains '" + part + "', which " + type + " was asked for");
}

void choose_by_rules(Job& job, const Mix& mix) {
  for (Item& item : job.items) {
    if (!item.takes_part || item.overridden || mix.base.empty()) continue;
    item.asked = wanted_type(mix, item.source->name, job.anatomy);
    item.target = fitting(item.asked, item.source->tensor.shape.cols());
  }
}

std::vector<int64_t> trial_rows(int64_t rows) {
  std::vector<int64_t> chosen;
  const int64_t n = std::min(rows, kTrialRows);
  for (int64_t i = 0; i < n; i++) chosen.push_back((2 * i + 1) * rows / (2 * n));
  return chosen;
}

// How much a tensor's relative error counts. Every linear adds its error to the same stream of activations, so equal relative errors of
// outputs count alike; the output matrix answers for every token alone.
double tensor_weight(const Item& item, const Anatomy& a) {
  const std::string& name = item.source->name;
  if (name == "output.weight") return 8;
  if (name == "token_embd.weight") return a.tied ? 12 : 4;
  return 1;
}

// The tensor as it was in the file that the source was trained from.
const Tensor* before_training(const Job& job, const Item& item) { return job.origin ? job.origin->find(item.source->name) : nullptr; }
bool same_tensor(const Tensor& a, const Tensor& b) { return a.format == b.format && std::ranges::equal(a.bytes, b.bytes); }

// Whether the format can hold the weights that the tensor had before it was trained exactly. A small update moves each weight by less than
// half a step of that grid, so the nearest codes are the old ones: a small squared error, all of which is what was learned.
bool undoes_training(const Job& job, const Tensor& before, const Format& f, const std::vector<int64_t>& rows,
                     const InputKnowledge& inputs) {
  constexpr double kExact = 1e-3;
  return before.format->group > 0 && f.group > 0 && trial_loss(before, rows, f, job.method, inputs, job.pool).relative() < kExact;
}

// Formats that may hold the tensor. Those with more bits than the source cannot be better than it, and the allocation finds that out.
std::vector<const Format*> candidates(const Job& job, const Item& item, const std::vector<int64_t>& rows, const InputKnowledge& inputs) {
  const Tensor& t = item.source->tensor;
  const Tensor* before = before_training(job, item);
  if (before && (before->shape != t.shape || same_tensor(*before, t))) before = nullptr;  // nothing that was learned could be lost
  std::vector<const Format*> list{kept_format(t.format)};
  for (const Format* f : formats())
    if (f != list[0] && f->encode && !f->by_name && t.shape.cols() % f->block == 0 &&
        !(before && undoes_training(job, *before, *f, rows, inputs)))
      list.push_back(f);
  return list;
}

uint64_t padded(uint64_t bytes) { return (bytes + 31) / 32 * 32; }

void choose_by_size(Job& job, const GgufWriter& metadata) {
  std::vector<std::vector<const Format*>> formats_of;
  std::vector<std::vector<TypeOption>> options;
  std::vector<Item*> open;
  GgufWriter rest = metadata;
  for (Item& item : job.items) {
    const Tensor& t = item.source->tensor;
    // A tensor of no bytes to speak of stands for its entry in the table.
    rest.add(item.source->name, item.takes_part && !item.overridden ? find_format("F32") : item.target, t.shape, {});
    if (!item.takes_part || item.overridden) {
      job.advance(t.bytes.size());
      continue;
    }
    open.push_back(&item);
    const std::vector<int64_t> rows = trial_rows(t.shape.rows());
    const InputKnowledge inputs = job.inputs_of(item);
    formats_of.push_back(candidates(job, item, rows, inputs));
    options.emplace_back();
    const double weight = tensor_weight(item, job.anatomy);
    for (const Format* f : formats_of.back()) {
      const double relative = f == t.format ? 0 : trial_loss(t, rows, *f, job.method, inputs, job.pool).relative();
      options.back().push_back({padded(uint64_t(f->bytes_for(t.shape.count()))), weight * relative * relative});
    }
    job.advance(t.bytes.size());
  }
  uint64_t fixed = rest.file_bytes();
  for (Item* item : open) fixed -= padded(uint64_t(item->source->tensor.shape.count()) * 4);
  const uint64_t limit = job.options.size_bytes;
  const auto chosen = limit > fixed ? allocate(options, limit - fixed) : std::nullopt;
  if (!chosen) {
    uint64_t least = fixed;
    for (const auto& list : options)
      least +=
          std::min_element(list.begin(), list.end(), [](const TypeOption& a, const TypeOption& b) { return a.bytes < b.bytes; })->bytes;
    throw out_of_reach(job.source, limit, least);
  }
  for (size_t i = 0; i < open.size(); i++) {
    open[i]->target = formats_of[i][(*chosen)[i]];
    open[i]->asked = open[i]->target->name;
  }
}

std::string count_of(int n, const char* what) { return std::to_string(n) + " " + what + (n == 1 ? "" : "s"); }

// Substitutions and other things that one would want to have known.
void remark(Job& job) {
  std::map<std::string, int> substituted;
  int coarse = 0, blind = 0, undone = 0;
  std::set<std::string> sources;
  for (const Item& item : job.items) {
    if (!item.takes_part) continue;
    const Tensor& t = item.source->tensor;
    if (lower(item.asked) != lower(item.target->name)) {
      const Format* f = find_format(item.asked);
      const std::string why = !f || !f->encode
                                  ? "this build does not write " + item.asked
                                  : "rows of " + std::to_string(t.shape.cols()) + " do not divide by " + std::to_string(f->block);
      substituted[why + ": " + item.target->name + " took the place of " + item.asked]++;
    }
    if (item.target == t.format) continue;
    const Tensor* before = before_training(job, item);
    if (t.format->group > 0 && !(before && same_tensor(*before, t))) sources.insert(t.format->name);
    undone += before && !same_tensor(*before, t) && before->format == item.target && item.target->group > 0;
    blind += job.importance() && job.method.uses_importance && item.weights.values.empty() && item.target->group > 0;
    coarse += !job.importance() && item.target->group > 0 && item.target->bits_per_weight() < 4;
  }
  for (const auto& [text, n] : substituted) job.remarks.push_back(text + " in " + count_of(n, "tensor"));
  if (!sources.empty()) {
    std::string names;
    for (const std::string& s : sources) names += (names.empty() ? "" : ", ") + s;
    job.remarks.push_back("the source is quantized already (" + names + "); what that lost stays lost");
  }
  if (undone > 0)
    job.remarks.push_back(
        count_of(undone, "tensor") +
        " of the type that the model had before it was trained: small changes are rounded away; another type of this size keeps more");
  if (blind > 0) job.remarks.push_back("no importance was measured for " + count_of(blind, "tensor"));
  if (coarse > 0)
    job.remarks.push_back(count_of(coarse, "tensor") + " of less than 4 bits without importance: measure it, they lose much less then");
  for (std::string& difference : llama_cpp_differences(job.source)) job.remarks.push_back(std::move(difference));
}

int file_type_of(const std::vector<Item>& items) {
  std::map<const Format*, int64_t> weights;
  for (const Item& i : items)
    if (i.takes_part) weights[i.target] += i.source->tensor.shape.count();
  const auto most = std::max_element(weights.begin(), weights.end(), [](const auto& a, const auto& b) {
    return a.second != b.second ? a.second < b.second : std::string_view(a.first->name) > b.first->name;
  });
  return most == weights.end() ? -1 : most->first->file_type;
}

void set_metadata(GgufWriter& writer, int file_type, bool integers) {
  file_type >= 0 ? writer.set_integer("general.file_type", uint32_t(file_type)) : writer.erase("general.file_type");
  if (integers) writer.set_integer("general.quantization_version", 2);
}

void add_tensors(Job& job, GgufWriter& writer, std::vector<std::byte>& blocks, QuantizeResult& result) {
  for (const Item& item : job.items) {
    const Tensor& t = item.source->tensor;
    writer.add(item.source->name, item.target, t.shape, [&]() -> std::span<const std::byte> {
      QuantizedTensor q{item.source->name, item.target->name, item.asked, uint64_t(item.target->bytes_for(t.shape.count())), 0};
      std::span<const std::byte> bytes = t.bytes;
      const std::string place = job.source.path().string() + ": tensor " + q.name;
      if (item.target == t.format) {
        require_finite(place, t, job.pool);
      } else {
        blocks.resize(q.bytes);
        const auto fill = [&](int64_t row, float* out) { decode_row(t, row, out); };
        q.relative_error =
            encode_rows(place, t.shape.rows(), t.shape.cols(), *item.target, job.method, job.inputs_of(item), fill, job.pool, blocks.data())
                .relative();
        bytes = blocks;
      }
      result.types[q.type]++;
      result.tensors.push_back(std::move(q));
      job.advance(t.bytes.size());
      return bytes;
    });
  }
}

double bits_per_weight(const Gguf& file, uint64_t bytes) {
  int64_t parameters = 0;
  for (const NamedTensor& t : file.tensors()) parameters += t.tensor.shape.count();
  return 8 * double(bytes) / double(parameters);
}

// Types by rules, and what follows from them for the metadata.
void choose_by_type(Job& job, GgufWriter& writer, const Mix& mix) {
  choose_by_rules(job, mix);
  const bool integers = std::any_of(job.items.begin(), job.items.end(), [](const Item& i) { return i.target->group > 0; });
  set_metadata(writer, mix.base.empty() ? file_type_of(job.items) : mix.file_type, integers);
}

}  // namespace

QuantizeResult plan_quantize(const fs::path& source, const fs::path& target, const QuantizeOptions& options) {
  const Method& method = find_method(options.method.empty() ? "weighted" : options.method);
  const Gguf file = open_model_file(source);
  check_source(file, target);
  QuantizeResult result;
  if (options.size_bytes > 0) {
    require_reachable(file, options.size_bytes);
    result.bytes = options.size_bytes;
  } else {
    const std::function<void(uint64_t, uint64_t)> nobody;
    Pool pool(1);
    Job job{file, options, method, pool, nobody, anatomy_of(file, options.importance && method.uses_importance), {}, {}, {}, {}};
    make_items(job);
    GgufWriter writer;
    writer.copy_metadata(file);
    choose_by_type(job, writer, find_mix(options.type));
    remark(job);
    for (const Item& item : job.items) {
      writer.add(item.source->name, item.target, item.source->tensor.shape, {});
      result.types[item.target->name]++;
    }
    result.bytes = writer.file_bytes();
    result.remarks = std::move(job.remarks);
  }
  result.bits_per_weight = bits_per_weight(file, result.bytes);
  return result;
}

QuantizeResult quantize(const fs::path& source, const fs::path& target, const QuantizeOptions& options, Pool& pool,
                        const std::function<void(uint64_t, uint64_t)>& progress) {
  const Method& method = find_method(!options.method.empty() ? options.method : options.calibration ? "gptq" : "weighted");
  if (method.uses_covariance && !options.calibration)
    throw usage(std::string("the method ") + method.name + " needs examples or text to calibrate on",
                "an imatrix file holds too little; use weighted");
  Mix mix;
  if (options.size_bytes == 0) mix = find_mix(options.type);
  const Gguf file = open_model_file(source);
  check_source(file, target);
  Job job{file, options, method, pool, progress, anatomy_of(file, (options.importance || options.calibration) && method.uses_importance),
          {},   {},      {},     {}};
  if (options.calibration && !options.importance) job.measured = options.calibration->importance();
  if (!options.origin.empty()) job.origin.emplace(open_model_file(options.origin));
  make_items(job);
  GgufWriter writer;
  writer.copy_metadata(file);
  if (options.size_bytes > 0) {
    job.total *= 2;
    set_metadata(writer, 0, true);
    choose_by_size(job, writer);
    set_metadata(writer, file_type_of(job.items), true);
  } else {
    choose_by_type(job, writer, mix);
  }
  remark(job);
  QuantizeResult result;
  std::vector<std::byte> blocks;
  add_tensors(job, writer, blocks, result);
  writer.write(target);
  result.bytes = writer.file_bytes();
  result.bits_per_weight = bits_per_weight(file, result.bytes);
  result.remarks = std::move(job.remarks);
  return result;
}

std::vector<std::byte> encode_tensor(const NamedTensor& t, const Format& format, const QuantizeOptions& options, Pool& pool) {
  const Method& method = find_method(!options.method.empty() ? options.method : options.calibration ? "gptq" : "weighted");
  InputKnowledge inputs{column_weights(t, options.importance), nullptr};
  if (options.calibration && method.uses_covariance)
    if (const float* covariance = options.calibration->covariance(t.name, pool))
      inputs.metric = std::make_shared<InputMetric>(covariance, int(t.tensor.shape.cols()), pool);
  std::vector<std::byte> blocks(size_t(format.bytes_for(t.tensor.shape.count())));
  encode_rows(
      "tensor " + t.name, t.tensor.shape.rows(), t.tensor.shape.cols(), format, method, inputs,
      [&](int64_t row, float* out) { decode_row(t.tensor, row, out); }, pool, blocks.data());
  return blocks;
}

void require_reachable(const Gguf& file, uint64_t bytes) {
  uint64_t total = 0;
  for (const NamedTensor& t : file.tensors()) {
    int64_t least = t.tensor.format->bytes_for(t.tensor.shape.count());
    if (t.tensor.shape.n >= 2)
      for (const Format* f : formats())
        if (f->encode && !f->by_name && t.tensor.shape.dim[t.tensor.shape.n - 1] % f->block == 0)
          least = std::min(least, f->bytes_for(t.tensor.shape.count()));
    total += uint64_t(least);
  }
  if (total > bytes) throw out_of_reach(file, bytes, total);
}

}  // namespace fettle
