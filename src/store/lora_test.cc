// Adapters: PEFT's own folders (tests/golden/peft, made by PEFT) and ours, in both forms; and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <nlohmann/json.hpp>

#include "../../tests/lora_names.h"
#include "format/format.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
const LoraBase kBase = llama_lora_base(2, 1);      // of the golden model
const LoraBase kStraight = llama_lora_base(0, 0);  // rows stay as they are

fs::path golden(const std::string& name) { return fs::path(FETTLE_SOURCE_DIR) / "tests/golden/peft" / name; }

const LoraPair& pair_of(const LoraFile& lora, const std::string& name) {
  for (const auto& p : lora.pairs)
    if (p.name == name) return p;
  throw refused(name, "no such pair");
}

double delta(const LoraFile& lora, const LoraPair& p, int row, int column) {
  double sum = 0;
  for (int i = 0; i < p.rank; i++) sum += double(p.b[size_t(row * p.rank + i)]) * double(p.a[size_t(i * p.in + column)]);
  return sum * double(lora.alpha) / (lora.rank_stabilised ? std::sqrt(double(p.rank)) : p.rank);
}

// What the adapter adds to the weights, against PEFT's own arithmetic.
void expect_deltas(const LoraFile& lora, const fs::path& folder) {
  Json want = Json::parse(read_text(folder / "deltas.json"));
  EXPECT_EQ(lora.pairs.size(), want.size());
  for (const auto& [name, samples] : want.items())
    for (const auto& s : samples) EXPECT_NEAR(delta(lora, pair_of(lora, name), s[0], s[1]), s[2].get<double>(), 1e-7) << name << " " << s;
}

void expect_same(const LoraFile& a, const LoraFile& b) {
  EXPECT_EQ(a.alpha, b.alpha);
  EXPECT_EQ(a.rank_stabilised, b.rank_stabilised);
  ASSERT_EQ(a.pairs.size(), b.pairs.size());
  for (const auto& p : a.pairs) {
    const LoraPair& q = pair_of(b, p.name);
    EXPECT_EQ(std::tie(p.rank, p.in, p.out), std::tie(q.rank, q.in, q.out)) << p.name;
    EXPECT_EQ(p.a, q.a) << p.name;
    EXPECT_EQ(p.b, q.b) << p.name;
    EXPECT_EQ(p.magnitude, q.magnitude) << p.name;
  }
}

class Lora : public ::testing::Test {
 protected:
  TestFolder folder;

  // The plain golden folder with its configuration or tensors changed.
  fs::path altered(const std::function<void(Json&)>& change_config) {
    fs::path copy = folder / "altered";
    fs::remove_all(copy);
    fs::copy(golden("plain"), copy);
    Json config = Json::parse(read_text(copy / "adapter_config.json"));
    change_config(config);
    write_text(copy / "adapter_config.json", config.dump());
    return copy;
  }
};

TEST_F(Lora, ReadsWhatPeftWrote) {
  LoraFile plain = read_lora(golden("plain"), kBase);
  EXPECT_EQ(plain.alpha, 6);
  EXPECT_FALSE(plain.rank_stabilised);
  EXPECT_EQ(pair_of(plain, "blk.1.ffn_down.weight").in, 24);
  expect_deltas(plain, golden("plain"));

  LoraFile patterns = read_lora(golden("patterns") / "adapter_config.json", kBase);
  EXPECT_TRUE(patterns.rank_stabilised);
  EXPECT_EQ(pair_of(patterns, "blk.0.ffn_down.weight").rank, 3);
  EXPECT_EQ(pair_of(patterns, "blk.2.attn_q.weight").rank, 1);
  expect_deltas(patterns, golden("patterns"));
}

TEST_F(Lora, WritesWhatPeftWouldHaveWritten) {
  write_lora_peft(folder / "plain", read_lora(golden("plain"), kBase), kBase, "tiny");
  Safetensors ours(folder / "plain" / "adapter_model.safetensors"), theirs(golden("plain") / "adapter_model.safetensors");
  ASSERT_EQ(ours.tensors().size(), theirs.tensors().size());
  for (const auto& [name, tensor] : theirs.tensors()) {
    const Tensor* mine = ours.find(name);
    ASSERT_TRUE(mine) << name;
    EXPECT_EQ(mine->shape, tensor.shape) << name;
    EXPECT_TRUE(std::ranges::equal(mine->bytes, tensor.bytes)) << name;
  }
  Json mine = Json::parse(read_text(folder / "plain" / "adapter_config.json")),
       his = Json::parse(read_text(golden("plain") / "adapter_config.json"));
  for (const char* key : {"peft_type", "task_type", "r", "lora_alpha", "bias", "base_model_name_or_path"})
    EXPECT_EQ(mine[key], his[key]) << key;
  auto sorted = [](const Json& list) { return std::set<std::string>(list.begin(), list.end()); };
  EXPECT_EQ(sorted(mine["target_modules"]), sorted(his["target_modules"]));
  EXPECT_FALSE(mine.contains("layers_to_transform"));
}

TEST_F(Lora, PeftRoundTripIsExact) {
  for (const char* name : {"plain", "patterns"}) {
    LoraFile lora = read_lora(golden(name), kBase);
    write_lora_peft(folder / name, lora, kBase, "tiny");
    expect_same(lora, read_lora(folder / name, kBase));
  }
  Json config = Json::parse(read_text(folder / "patterns" / "adapter_config.json"));
  EXPECT_EQ(config["layers_to_transform"], Json({0, 2}));
  // a folder for a person with PEFT at hand: make_peft_golden.py check
  if (const char* keep = std::getenv("FETTLE_PEFT_OUT")) fs::copy(folder.path(), keep, fs::copy_options::recursive);
}

TEST_F(Lora, TargetsOfUnlikeLayersAreNamedInFull) {
  LoraFile lora = read_lora(golden("plain"), kBase);
  std::erase_if(lora.pairs, [](const LoraPair& p) { return p.name == "blk.1.attn_v.weight"; });
  lora.pairs.push_back({"output.weight", 2, 16, 32, std::vector<float>(32, 1), std::vector<float>(64, 1)});
  write_lora_peft(folder / "some", lora, kBase, "tiny");
  Json targets = Json::parse(read_text(folder / "some" / "adapter_config.json"))["target_modules"];
  EXPECT_EQ(targets.size(), lora.pairs.size());
  EXPECT_TRUE(std::ranges::count(targets, Json("model.layers.1.self_attn.q_proj")) && std::ranges::count(targets, Json("lm_head")));
  expect_same(lora, read_lora(folder / "some", kBase));
}

// As llama.cpp wants them: one tensor for all experts of a block.
TEST_F(Lora, ExpertsAreStackedInGguf) {
  LoraFile lora{.alpha = 8, .architecture = "llama"};
  for (int e = 0; e < 3; e++)
    lora.pairs.push_back(
        {"blk.0.ffn_up." + std::to_string(e) + ".weight", 2, 3, 4, std::vector<float>(6, float(e)), std::vector<float>(8, 1)});
  lora.pairs.push_back({"blk.1.ffn_up.1.weight", 2, 3, 4, std::vector<float>(6, 7), std::vector<float>(8, 1)});  // one alone
  write_lora_gguf(folder / "experts.gguf", lora);
  expect_same(lora, read_lora(folder / "experts.gguf", llama_lora_base(0, 0)));
  const Gguf file(folder / "experts.gguf");
  EXPECT_EQ(file.tensor("blk.0.ffn_up_exps.weight.lora_a").shape, (Shape{3, 2, 3}));
  EXPECT_EQ(file.tensor("blk.0.ffn_up_exps.weight.lora_b").shape, (Shape{3, 4, 2}));
  EXPECT_EQ(file.tensor("blk.1.ffn_up.1.weight.lora_a").shape, (Shape{2, 3}));
}

TEST_F(Lora, GgufRoundTrip) {
  LoraFile lora = read_lora(golden("plain"), kBase);
  write_lora_gguf(folder / "adapter.gguf", lora);
  expect_same(lora, read_lora(folder / "adapter.gguf", kBase));
  Gguf file(folder / "adapter.gguf");
  EXPECT_EQ(file.string("general.type"), "adapter");
  EXPECT_EQ(file.string("general.architecture"), "llama");
  EXPECT_EQ(file.string("adapter.type"), "lora");
  EXPECT_EQ(file.tensor("blk.0.ffn_down.weight.lora_a").shape, (Shape{2, 24}));
  EXPECT_EQ(file.tensor("blk.0.ffn_down.weight.lora_b").shape, (Shape{16, 2}));
}

TEST_F(Lora, RankStabilisedSurvivesGgufInEffect) {
  write_lora_gguf(folder / "adapter.gguf", read_lora(golden("patterns"), kBase));
  LoraFile back = read_lora(folder / "adapter.gguf", kBase);
  EXPECT_FALSE(back.rank_stabilised);
  expect_deltas(back, golden("patterns"));
}

TEST_F(Lora, OtherOrdersStayAsTheyAre) {
  const LoraBase qwen = llama_lora_base(0, 0, "qwen2");
  LoraFile turned = read_lora(golden("plain"), kBase), straight = read_lora(golden("plain"), qwen);
  EXPECT_NE(pair_of(turned, "blk.0.attn_q.weight").b, pair_of(straight, "blk.0.attn_q.weight").b);
  EXPECT_EQ(pair_of(turned, "blk.0.attn_v.weight").b, pair_of(straight, "blk.0.attn_v.weight").b);
  EXPECT_EQ(straight.architecture, "qwen2");
  write_lora_peft(folder / "straight", straight, qwen, "tiny");
  expect_same(straight, read_lora(folder / "straight", qwen));
}

// The magnitudes' rows are turned as B's are; a GGUF adapter has no place for them.
TEST_F(Lora, MagnitudesSurvivePeft) {
  const LoraFile dora = read_lora(golden("dora"), kBase), straight = read_lora(golden("dora"), kStraight);
  const LoraPair &q = pair_of(dora, "blk.1.attn_q.weight"), &same = pair_of(straight, "blk.1.attn_q.weight");
  ASSERT_EQ(q.magnitude.size(), 16u);
  EXPECT_EQ(q.magnitude[1], same.magnitude[4]) << "the second row of a head of 8 is the first of its second half";
  write_lora_peft(folder / "dora", dora, kBase, "tiny");
  expect_same(dora, read_lora(folder / "dora", kBase));
  EXPECT_EQ(Json::parse(read_text(folder / "dora" / "adapter_config.json"))["use_dora"], true);
  EXPECT_NE(error_of([&] { write_lora_gguf(folder / "dora.gguf", dora); }).find("DoRA"), std::string::npos);
  LoraFile some = dora;
  some.pairs[0].magnitude.clear();
  EXPECT_NE(error_of([&] { write_lora_peft(folder / "some", some, kBase, "tiny"); }).find("some have not"), std::string::npos);
}

// Of expressions that match a module the first one in the file counts, not the first one of the alphabet.
TEST_F(Lora, PatternsKeepTheirOrder) {
  const fs::path path = altered([](Json&) {});
  std::string text = read_text(path / "adapter_config.json");
  const std::string empty = "\"alpha_pattern\":{}";
  ASSERT_NE(text.find(empty), std::string::npos);
  text.replace(text.find(empty), empty.size(), R"("alpha_pattern":{"z|q_proj": 12, "q_proj": 3})");
  write_text(path / "adapter_config.json", text);
  const LoraFile plain = read_lora(golden("plain"), kBase), doubled = read_lora(path, kBase);
  EXPECT_EQ(pair_of(doubled, "blk.0.attn_q.weight").b[3], 2 * pair_of(plain, "blk.0.attn_q.weight").b[3]);
  EXPECT_EQ(pair_of(doubled, "blk.0.attn_k.weight").b[3], pair_of(plain, "blk.0.attn_k.weight").b[3]);
}

TEST_F(Lora, AlphaZeroMeansScaleOneInGguf) {
  GgufWriter writer;
  writer.set_string("general.type", "adapter");
  writer.set_string("adapter.type", "lora");
  writer.set_real("adapter.lora.alpha", 0);
  std::vector<float> a(6, 1), b(4, 2);
  writer.add("blk.0.attn_v.weight.lora_b", find_format("F32"), {2, 2}, [&] { return std::as_bytes(std::span(b)); });
  writer.add("blk.0.attn_v.weight.lora_a", find_format("F32"), {2, 3}, [&] { return std::as_bytes(std::span(a)); });
  writer.write(folder / "zero.gguf");
  LoraFile lora = read_lora(folder / "zero.gguf", kStraight);
  EXPECT_DOUBLE_EQ(delta(lora, lora.pairs[0], 1, 2), 4);
}

TEST_F(Lora, RefusesOptionsThatItWouldGetWrong) {
  auto refusal = [&](const char* key, const Json& value) {
    fs::path path = altered([&](Json& c) { c[key] = value; });
    return error_of([&] { read_lora(path, kBase); });
  };
  EXPECT_NE(refusal("use_dora", true).find("no magnitudes"), std::string::npos);
  EXPECT_NE(refusal("bias", "all").find("biases"), std::string::npos);
  EXPECT_NE(refusal("modules_to_save", Json({"lm_head"})).find("whole modules"), std::string::npos);
  EXPECT_NE(refusal("init_lora_weights", "pissa").find("base weights"), std::string::npos);
  EXPECT_NE(refusal("peft_type", "IA3").find("IA3"), std::string::npos);
  EXPECT_NE(refusal("r", 3).find("rank 2"), std::string::npos);
  EXPECT_NE(refusal("r", -1).find("positive"), std::string::npos);
  EXPECT_NE(refusal("r", 1e30).find("says 1e+30"), std::string::npos);
  EXPECT_NE(refusal("lora_alpha", 1e300).find("positive number"), std::string::npos);
  EXPECT_NE(refusal("lora_alpha", 1e-300).find("positive number"), std::string::npos);
  EXPECT_NE(refusal("lora_alpha", 0).find("positive"), std::string::npos);
  EXPECT_NE(refusal("fan_in_fan_out", true).find("fan_in_fan_out"), std::string::npos);
  EXPECT_NE(refusal("an_option_of_2030", 1).find("an_option_of_2030"), std::string::npos);
  EXPECT_NE(refusal("alpha_pattern", Json({{"(", 2}})).find("malformed"), std::string::npos);
  EXPECT_NE(refusal("alpha_pattern", Json({{"(((.+)+)+)+(((.+)+)+)+\\d", 2}})).find("too long"), std::string::npos);
  EXPECT_EQ(refusal("lora_dropout", 0.1), "");
}

TEST_F(Lora, RefusesBrokenFolders) {
  fs::create_directories(folder / "empty");
  EXPECT_NE(error_of([&] { read_lora(folder / "empty", kBase); }).find("adapter_config.json"), std::string::npos);
  fs::path pickled = altered([](Json&) {});
  fs::rename(pickled / "adapter_model.safetensors", pickled / "adapter_model.bin");
  EXPECT_NE(error_of([&] { read_lora(pickled, kBase); }).find("pickle"), std::string::npos);
  EXPECT_NE(error_of([&] { read_lora(golden("plain"), llama_lora_base(3, 1)); }).find("heads"), std::string::npos);
  fs::path deep = altered([](Json&) {});
  write_text(deep / "adapter_config.json", std::string(100000, '['));
  EXPECT_NE(error_of([&] { read_lora(deep, kBase); }).find("nested"), std::string::npos);
}

TEST_F(Lora, RefusesTensorsThatItWouldGetWrong) {
  std::vector<float> values(64, 1), bad(64, 1);
  bad[5] = NAN;
  auto refusal = [&](const std::vector<SafetensorsItem>& tensors) {
    fs::path path = altered([](Json&) {});
    write_safetensors(path / "adapter_model.safetensors", tensors);
    return error_of([&] { read_lora(path, kStraight); });
  };
  const std::string q = "base_model.model.model.layers.0.self_attn.q_proj";
  const SafetensorsItem a = f32_item(q + ".lora_A.weight", {2, 16}, values.data()),
                        b = f32_item(q + ".lora_B.weight", {16, 2}, values.data());
  EXPECT_EQ(refusal({a, b}), "");
  EXPECT_EQ(refusal({f32_item(q + ".lora_A.default.weight", {2, 16}, values.data()), b}), "");
  EXPECT_NE(refusal({a}).find("no matrix B"), std::string::npos);
  EXPECT_NE(refusal({a, f32_item(b.name, {16, 3}, values.data())}).find("rank x in"), std::string::npos);
  EXPECT_NE(refusal({a, f32_item(b.name, {16, 2}, bad.data())}).find("not finite"), std::string::npos);
  EXPECT_NE(refusal({a, b, f32_item(q + ".lora_magnitude_vector", {16}, values.data())}).find("use_dora is false"), std::string::npos);
  EXPECT_NE(refusal({a, b, f32_item("base_model.model.lm_head.weight", {2, 16}, values.data())}).find("whole modules"), std::string::npos);
  EXPECT_NE(refusal({f32_item("base_model.model.model.layers.0.mixer.lora_A.weight", {2, 16}, values.data())}).find("not supported"),
            std::string::npos);
  EXPECT_NE(refusal({f32_item("base_model.model.model.embed_tokens.lora_embedding_A", {2, 16}, values.data())}).find("embedding"),
            std::string::npos);
  EXPECT_NE(refusal({}).find("no tensors"), std::string::npos);
  EXPECT_NE(refusal({a, b, f32_item(q + ".lora_A.other.weight", {2, 16}, values.data())}).find("two matrices"), std::string::npos);
}

TEST_F(Lora, RefusesModelsAndOtherTensorsInGguf) {
  std::vector<float> values(64, 1);
  auto refusal = [&](const char* type, const char* tensor, double alpha = 4) {
    GgufWriter writer;
    writer.set_string("general.type", type);
    writer.set_string("adapter.type", "lora");
    writer.set("adapter.lora.alpha", {GgufValue::Type::f64, {}, alpha});
    writer.add(tensor, find_format("F32"), {2, 2}, [&] { return std::as_bytes(std::span(values).first(4)); });
    writer.write(folder / "bad.gguf");
    return error_of([&] { read_lora(folder / "bad.gguf", kStraight); });
  };
  EXPECT_NE(refusal("model", "blk.0.attn_q.weight.lora_a").find("not an adapter"), std::string::npos);
  EXPECT_NE(refusal("adapter", "blk.0.attn_norm.weight").find("whole tensors"), std::string::npos);
  EXPECT_NE(refusal("adapter", "token_embd.weight.lora_a").find("embedding"), std::string::npos);
  EXPECT_NE(refusal("adapter", "blk.0.attn_q.weight.lora_a").find("no matrix B"), std::string::npos);
  EXPECT_NE(refusal("adapter", "blk.0.attn_q.weight.lora_a", 1e300).find("too large"), std::string::npos);
  EXPECT_NE(refusal("adapter", "blk.0.attn_q.weight.lora_a", -1).find("negative"), std::string::npos);
}

}  // namespace
}  // namespace fettle
