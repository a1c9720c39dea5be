// Every architecture against transformers and PEFT: each fixture of tests/golden/arch is a tiny model as a Hugging Face folder, whose
// weights are a hash of their names (make_arch_golden.py). The folder is written and opened; what comes out of it, of a GGUF made of it and
// of the cache must be the reference's, and so must the loss and every gradient of one step of training an adapter.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>

#include "../../tests/tiny_model.h"
#include "model/model.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

fs::path fixtures() { return fs::path(FETTLE_SOURCE_DIR) / "tests/golden/arch"; }

// mean + scale * u, with u in [-1, 1) of the tensor's name and the element's index.
std::vector<float> hashed(const std::string& name, int64_t count, float mean, float scale) {
  uint64_t seed = 0xcbf29ce484222325;
  for (char c : name) seed = (seed ^ uint8_t(c)) * 0x100000001b3;
  std::vector<float> values;
  for (int64_t i = 1; i <= count; i++) {
    uint64_t x = seed + uint64_t(i) * 0x9e3779b97f4a7c15;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
    x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
    x ^= x >> 31;
    values.push_back(mean + scale * (float(x >> 40) / float(1 << 23) - 1));
  }
  return values;
}

Shape shape_of(const Json& dims) {
  Shape shape;
  for (const Json& d : dims) shape.dim[shape.n++] = d;
  return shape;
}

struct HashedTensors {
  std::vector<SafetensorsItem> items;
  void add(const std::string& name, Shape shape, float mean, float scale) {
    values_.push_back(hashed(name, shape.count(), mean, scale));
    items.push_back(f32_item(name, shape, values_.back().data()));
  }

 private:
  std::vector<std::vector<float>> values_;
};

void write_json(const fs::path& path, const Json& json) { std::ofstream(path) << json; }

class Family : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("fettle-family-" + std::to_string(::getpid()) + "-" + GetParam());
    fs::create_directories(root_ / "folder");
    golden_ = Json::parse(std::ifstream(fixtures() / (GetParam() + ".json")));
    ids_ = golden_["ids"].get<std::vector<int>>();
    write_json(root_ / "folder/config.json", golden_["config"]);
    Json vocabulary;
    const std::vector<std::string> names = TinyModel::byte_names();
    for (size_t i = 0; i < names.size(); i++) vocabulary[names[i]] = i;
    const Json bytes = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}, {"use_regex", true}};
    write_json(root_ / "folder/tokenizer.json", {{"version", "1.0"},
                                                 {"added_tokens", Json::array()},
                                                 {"normalizer", nullptr},
                                                 {"pre_tokenizer", bytes},
                                                 {"post_processor", nullptr},
                                                 {"decoder", bytes},
                                                 {"model", {{"type", "BPE"}, {"vocab", vocabulary}, {"merges", Json::array()}}}});
    HashedTensors weights;
    for (const Json& t : golden_["tensors"]) weights.add(t[0], shape_of(t[1]), t[2], t[3]);
    write_safetensors(root_ / "folder/model.safetensors", weights.items);
  }
  void TearDown() override { fs::remove_all(root_); }

  bool encoder() const { return golden_.contains("hidden"); }

  // An encoder's: the largest difference of its states, computed beside another text.
  double states_difference(Model& model) {
    Arena arena;
    Batch batch;
    batch.add(0, 0, std::span(ids_).first(3), false);
    batch.add(0, 0, ids_, false);
    fettle::Run run{arena, pool_, nullptr, nullptr, nullptr, Precision::exact};
    const Var* states = model.hidden(run, batch);
    double worst = 0;
    for (size_t r = 0; r < ids_.size(); r++)
      for (size_t i = 0; i < golden_["columns"].size(); i++)
        worst = std::max(worst, std::fabs(states->data[(r + 3) * size_t(states->cols) + golden_["columns"][i].get<size_t>()] -
                                          golden_["hidden"][r][i].get<double>()));
    return worst;
  }

  // The largest difference of logits, log-sums or first choices; cuts: where the text is cut into passes.
  double difference(Model& model, KvCache* cache, const std::vector<int>& cuts) {
    if (encoder()) return states_difference(model);
    double worst = 0;
    EXPECT_TRUE(!cache || cache->reserve(0, int(ids_.size())));
    for (size_t c = 0; c + 1 < cuts.size(); c++) {
      Arena arena;
      Batch batch;
      batch.add(0, cuts[c], std::span(ids_).subspan(size_t(cuts[c]), size_t(cuts[c + 1] - cuts[c])), true, true);
      fettle::Run run{arena, pool_, cache, nullptr, nullptr, Precision::exact};
      run.longest = int(ids_.size());
      const Var* logits = model.logits(run, batch);
      for (int r = 0; r < logits->rows; r++) {
        const size_t at = size_t(cuts[c] + r);
        const float* row = logits->data + int64_t(r) * logits->cols;
        for (size_t i = 0; i < golden_["columns"].size(); i++)
          worst = std::max(worst, std::fabs(row[golden_["columns"][i].get<size_t>()] - golden_["logits"][at][i].get<double>()));
        worst = std::max(worst, std::fabs(log_sum_exp(row, logits->cols) - golden_["log_sum_exp"][at].get<double>()));
        EXPECT_EQ(argmax(row, logits->cols), golden_["top"][at].get<int>()) << at;
      }
    }
    return worst;
  }

  int end() const { return int(ids_.size()); }

  fs::path root_;
  Json golden_;
  std::vector<int> ids_;
  Pool pool_{1};
};

TEST_P(Family, FoldersGiveTheReferencesLogits) {
  auto model = Model::open(root_ / "folder");
  EXPECT_LT(difference(*model, nullptr, {0, end()}), 1e-3);
  if (encoder()) return;
  KvCache cache(model->kv_shape(), find_format("F32"), 1, end());
  EXPECT_LT(difference(*model, &cache, {0, 5, 6, 7, end()}), 1e-3) << "in pieces, through the cache";
}

TEST_P(Family, TheirGgufsAndFoldersAreTheSameModels) {
  auto model = Model::open(root_ / "folder");
  GgufWriter writer;
  writer.copy_metadata(*model->file);
  for (const NamedTensor& t : model->file->tensors()) writer.add(t.name, t.tensor.format, t.tensor.shape, [&t] { return t.tensor.bytes; });
  writer.write(root_ / "model.gguf");
  auto again = Model::open(root_ / "model.gguf");
  EXPECT_LT(difference(*again, nullptr, {0, end()}), 1e-3);
  write_hf(*again->file, root_ / "written", {.type = find_format("F32"), .progress = {}});
  EXPECT_LT(difference(*Model::open(root_ / "written"), nullptr, {0, end()}), 1e-3);
}

// tests/peer/families.py holds this against llama.cpp itself.
TEST_P(Family, WhatLlamaCppDoesOtherwiseIsKnown) {
  const std::multimap<std::string, std::string> known{{"mistral", "not the last 5 alone"},
                                                      {"phi3", "not the last 5 alone"},
                                                      {"phi3_long", "room for more than 8 tokens"},
                                                      {"phi3_short", "room for more than 256 tokens"},
                                                      {"phimoe", "room for more than 64 tokens"},
                                                      {"phimoe", "SparseMixer"},
                                                      {"gemma3_local", "not by attention.scale"},
                                                      {"qwen2_windows", "not the last 5 alone"},
                                                      {"qwen3_windows", "not the last 5 alone"},
                                                      {"qwen2moe_dense", "block 0 has none"},
                                                      {"qwen3moe_dense", "block 0 has none"},
                                                      {"qwen3moe_dense", "not the last 5 alone"},
                                                      {"qwen3moe_dense", "whatever expert_weights_norm says"},
                                                      {"qwen3moe_plain", "whatever expert_weights_norm says"},
                                                      {"qwen2moe_norm", "whatever expert_weights_norm says"}};
  const std::vector<std::string> said = llama_cpp_differences(open_model_file(root_ / "folder"));
  EXPECT_EQ(said.size(), known.count(GetParam())) << testing::PrintToString(said);
  for (auto [at, end] = known.equal_range(GetParam()); at != end; ++at)
    EXPECT_TRUE(std::ranges::any_of(said, [&](const std::string& s) { return s.find(at->second) != s.npos; })) << at->second;
}

// One step: the loss, and of each adapter's A and B the gradient, through PEFT's files both ways.
TEST_P(Family, AdaptersTrainAsInPeft) {
  if (encoder()) GTEST_SKIP() << "an encoder writes no text, and is not trained to";
  auto model = Model::open(root_ / "folder");
  const Json& lora = golden_["lora"];
  HashedTensors adapters;
  std::set<std::string> targets;
  for (const auto& [name, about] : lora["modules"].items()) {
    adapters.add(name, shape_of(about["shape"]), 0, 0.2f);
    const size_t end = name.rfind(".lora_");
    targets.insert(name.substr(name.rfind('.', end - 1) + 1, end - name.rfind('.', end - 1) - 1));
  }
  fs::create_directories(root_ / "adapter");
  write_safetensors(root_ / "adapter/adapter_model.safetensors", adapters.items);
  write_json(root_ / "adapter/adapter_config.json",
             {{"peft_type", "LORA"}, {"r", lora["rank"]}, {"lora_alpha", lora["alpha"]}, {"target_modules", targets}});
  model->attach_lora(read_adapter(root_ / "adapter", *model), "adapter");
  for (Linear* l : model->linears())
    if (Adapter* a = l->adapter.get()) a->da.assign(a->a.size(), 0), a->db.assign(a->b.size(), 0);

  Arena arena;
  Tape tape;
  fettle::Run run{arena, pool_, nullptr, &tape, nullptr, Precision::exact};
  Batch batch;
  batch.add(0, 0, ids_, false);
  std::vector<int> rows;
  for (int i = 0; i + 1 < end(); i++) rows.push_back(i);
  Var* states = gather_rows(run, model->hidden(run, batch), rows);
  const std::vector<int> targets_ids(ids_.begin() + 1, ids_.end());
  const double n = double(rows.size());
  EXPECT_NEAR(cross_entropy(run, states, model->head, targets_ids, 1 / n) / n, golden_["loss"].get<double>(), 1e-3);
  tape.backward();

  LoraFile gradients = model->lora(lora["alpha"]);
  for (LoraPair& p : gradients.pairs) {
    p.a = model->find_linear(p.name)->adapter->da;
    p.b = model->find_linear(p.name)->adapter->db;
  }
  write_lora_peft(root_ / "gradients", gradients, model->lora_base(), "base");
  const Safetensors file(root_ / "gradients/adapter_model.safetensors");
  EXPECT_EQ(file.tensors().size(), lora["modules"].size());
  for (const auto& [name, about] : lora["modules"].items()) {
    const Tensor* t = file.find(name);
    ASSERT_NE(t, nullptr) << name;
    const float* g = reinterpret_cast<const float*>(t->bytes.data());
    const int64_t count = t->shape.count();
    double squares = 0;
    for (int64_t i = 0; i < count; i++) squares += double(g[i]) * g[i];
    const double truth = about["squares"], size = std::sqrt(truth / double(count));
    EXPECT_GT(truth, 0) << name;
    EXPECT_NEAR(squares, truth, 2e-3 * truth) << name;
    for (int64_t i = 0; i < 5; i++) {
      const double some = about["some"][size_t(i)];
      EXPECT_NEAR(g[i * (count - 1) / 4], some, 1e-3 * std::max(std::fabs(some), size)) << name << " " << i;
    }
  }
}

std::vector<std::string> names() {
  std::vector<std::string> all;
  for (const fs::directory_entry& e : fs::directory_iterator(fixtures())) all.push_back(e.path().stem());
  std::sort(all.begin(), all.end());
  return all;
}

INSTANTIATE_TEST_SUITE_P(Golden, Family, testing::ValuesIn(names()), [](const auto& info) { return info.param; });

}  // namespace
}  // namespace fettle
