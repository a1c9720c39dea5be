// Low-rank adapters (Hu et al. 2021) as PEFT starts them: A uniform in +-1/sqrt(in) (Kaiming with a = sqrt 5), B zero, so that the first
// step begins at the base model. Each linear has a random stream of its own: the start depends on the seed and the linear's place alone.
#include "train/parameters.h"

#include <algorithm>
#include <cmath>

namespace fettle {
namespace {

// Hugging Face's words for the linears, so that a PEFT user's target list works as it is.
std::string gguf_word(const std::string& target) {
  static const std::pair<const char*, const char*> words[] = {
      {"q_proj", "attn_q"},  {"k_proj", "attn_k"},      {"v_proj", "attn_v"},     {"o_proj", "attn_output"}, {"gate_proj", "ffn_gate"},
      {"up_proj", "ffn_up"}, {"down_proj", "ffn_down"}, {"qkv_proj", "attn_qkv"}, {"gate_up_proj", "ffn_up"}};
  for (const auto& [theirs, ours] : words)
    if (target == theirs) return ours;
  return target;
}

// "blk.0.attn_q.weight" -> "attn_q", and an expert's "blk.0.ffn_up.7.weight" -> "ffn_up"
std::string short_name(const Linear& linear) {
  const std::vector<std::string> parts = split(linear.name, '.');
  return parts.size() >= 4 ? parts[2] : linear.name;
}

}  // namespace

std::vector<Linear*> chosen(Model& model, const std::vector<std::string>& targets) {
  std::vector<Linear*> all = model.linears();
  if (targets.empty()) return all;
  std::vector<bool> taken(all.size());
  for (const std::string& target : targets) {
    const std::string word = gguf_word(target);
    bool found = false;
    // A linear's own name means these alone: ffn_gate is no part of ffn_gate_inp.
    const bool whole = std::any_of(all.begin(), all.end(), [&](const Linear* l) { return short_name(*l) == word; });
    for (size_t i = 0; i < all.size(); i++)
      if (!word.empty() && (whole ? short_name(*all[i]) == word : all[i]->name.find(word) != std::string::npos)) taken[i] = found = true;
    if (found) continue;
    std::vector<std::string> known;
    std::string list;
    for (const Linear* l : all)
      if (const std::string name = short_name(*l); std::find(known.begin(), known.end(), name) == known.end()) {
        known.push_back(name);
        list += (list.empty() ? "" : ", ") + name;
      }
    throw usage("no linear of the model is called '" + target + "'", "the model has " + list);
  }
  std::vector<Linear*> some;
  for (size_t i = 0; i < all.size(); i++)
    if (taken[i]) some.push_back(all[i]);
  return some;
}

namespace {

void attach_fresh(Model& model, const TrainOptions& o) {
  if (o.rank < 1 || o.rank > 1024) throw usage("--rank is " + std::to_string(o.rank) + ", expected 1 to 1024");
  if (!(o.alpha > 0) || !std::isfinite(o.alpha)) throw usage("--alpha must be above 0");
  const std::vector<Linear*> some = chosen(model, o.targets);
  model.detach_lora();
  const std::vector<Linear*> all = model.linears();
  for (Linear* l : some) {
    auto adapter = std::make_unique<Adapter>();
    adapter->rank = o.rank;
    adapter->scale = o.alpha / float(o.rank);
    adapter->a.resize(size_t(o.rank) * size_t(l->in));
    adapter->b.resize(size_t(l->out) * size_t(o.rank));
    Random random(o.seed, 1000 + uint64_t(std::find(all.begin(), all.end(), l) - all.begin()));
    const double bound = 1 / std::sqrt(double(l->in));
    for (float& x : adapter->a) x = float((2 * random.uniform() - 1) * bound);
    l->adapter = std::move(adapter);
  }
}

}  // namespace

// The chosen linears' weights, decoded to f32 and trained themselves. Embedding, head, norms and biases stay as they are.
std::vector<Parameter> train_weights(Model& model, const TrainOptions& o) {
  if (o.init_adapter) throw usage("an initial adapter is trained with --method lora");
  model.detach_lora();
  std::vector<Parameter> parameters;
  for (Linear* l : chosen(model, o.targets)) {
    auto trained = std::make_unique<Trained>();
    trained->value.resize(size_t(l->in) * size_t(l->out));
    trained->grad.assign(trained->value.size(), 0);
    l->weight.format->decode(l->weight.bytes.data(), trained->value.data(), int64_t(trained->value.size()));
    l->weight = Tensor{find_format("F32"), l->weight.shape, std::as_bytes(std::span(trained->value))};
    l->trained = std::move(trained);
    parameters.push_back({l->name, l->trained->value, l->trained->grad});
  }
  refresh(model);
  return parameters;
}

// The scales of the chosen linears that are quantized; their codes stay. Others are left alone.
std::vector<Parameter> train_scales(Model& model, const TrainOptions& o) {
  if (o.init_adapter) throw usage("an initial adapter is trained with --method lora");
  model.detach_lora();
  std::vector<Parameter> parameters;
  for (Linear* l : chosen(model, o.targets)) {
    if (l->weight.format->scale_at < 0) continue;
    l->scales = std::make_unique<TrainedScales>(l->weight);
    l->weight.bytes = l->scales->blocks;
    parameters.push_back({l->name + ".scales", l->scales->value, l->scales->grad});
  }
  if (parameters.empty())
    throw usage("none of the chosen weights has blocks with a 16-bit scale: there is nothing to train", "quantize the model first");
  return parameters;
}

std::vector<Parameter> make_trainable(Model& model, const TrainOptions& o) {
  if (o.method == "full") return train_weights(model, o);
  if (o.method == "scales") return train_scales(model, o);
  if (o.method != "lora") throw usage("unknown --method '" + o.method + "'", "fettle trains lora, full or scales");
  if (o.init_adapter) {
    if (std::ranges::any_of(o.init_adapter->pairs, [](const LoraPair& p) { return !p.magnitude.empty(); }))
      throw refused("initial adapter", "has magnitudes (DoRA), which are not trained here", "merge it into the model and train that");
    model.attach_lora(*o.init_adapter, "initial adapter");
    if (o.init_adapter->pairs.empty()) throw refused("initial adapter", "holds no pair of matrices");
  } else {
    attach_fresh(model, o);
  }
  std::vector<Parameter> parameters;
  for (Linear* l : model.linears()) {
    if (!l->adapter) continue;
    Adapter& a = *l->adapter;
    a.da.assign(a.a.size(), 0);
    a.db.assign(a.b.size(), 0);
    parameters.push_back({l->name + ".a", a.a, a.da});
    parameters.push_back({l->name + ".b", a.b, a.db});
  }
  return parameters;
}

void refresh(Model& model) {
  for (Linear* l : model.linears()) {
    if (l->scales) l->scales->apply();
    for (int use = 0; (l->trained || l->scales) && use < Linear::uses; use++) l->drop_panels(Linear::Use(use));
  }
}

void end_training(Model& model) {
  const auto drop = [](Linear& l) {
    for (Linear::Use use : {Linear::forward_bf16, Linear::backward_bf16, Linear::forward_f32, Linear::backward_f32}) l.drop_panels(use);
  };
  for (Linear* l : model.linears()) {
    drop(*l);
    if (l->trained) l->trained->grad = {};
    if (l->scales) l->scales->grad = {};
    if (l->adapter) l->adapter->da = l->adapter->db = {};
  }
  drop(model.head);
}

int64_t count(const std::vector<Parameter>& parameters) {
  int64_t n = 0;
  for (const Parameter& p : parameters) n += int64_t(p.value.size());
  return n;
}

std::vector<float> copy_values(const std::vector<Parameter>& parameters) {
  std::vector<float> values;
  values.reserve(size_t(count(parameters)));
  for (const Parameter& p : parameters) values.insert(values.end(), p.value.begin(), p.value.end());
  return values;
}

void set_values(const std::vector<Parameter>& parameters, std::span<const float> values) {
  CHECK(int64_t(values.size()) == count(parameters), "one value per trained number");
  for (const Parameter& p : parameters) {
    std::copy_n(values.begin(), p.value.size(), p.value.begin());
    values = values.subspan(p.value.size());
  }
}

}  // namespace fettle
