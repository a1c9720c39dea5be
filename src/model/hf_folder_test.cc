// Folders as Hugging Face lays them out are the models that their GGUF is; what is broken in them is named.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "../../tests/tiny_folder.h"
#include "model/model.h"

namespace fettle {
namespace {

std::vector<float> logits(const fs::path& path, const std::vector<int>& ids) {
  auto model = Model::open(path);
  Pool pool(1);
  Arena arena;
  KvCache kv(model->kv_shape(), find_format("F32"), 1, 256);
  EXPECT_TRUE(kv.reserve(0, int(ids.size())));
  Batch batch;
  batch.add(0, 0, ids, true, true);
  Run run{arena, pool, &kv, nullptr, nullptr, Precision::exact};
  Var* y = model->logits(run, batch);
  return {y->data, y->data + y->count()};
}

struct HfFolder : testing::Test {
  void SetUp() override {
    root = fs::temp_directory_path() / ("fettle-hf-" + std::to_string(::getpid()));
    fs::create_directories(root);
    gguf = root / "tiny.gguf";
    folder = root / "tiny";
  }
  void TearDown() override { fs::remove_all(root); }
  // What opening the tiny folder says after `change`.
  std::string refusal(
      const std::function<void(TinyFolder&)>& change, const std::function<void()>& after = [] {}) {
    if (!fs::exists(gguf)) TinyModel().write(gguf);
    const Gguf file(gguf);
    TinyFolder tiny(file);
    change(tiny);
    fs::remove_all(folder);
    tiny.write(folder);
    after();
    try {
      Model::open(folder);
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::refused);
      return e.text();
    }
    return "";
  }
  fs::path root, gguf, folder;
  const std::vector<int> ids = {72, 101, 108, 108, 111, 256, 3, 250, 17};
};

TEST_F(HfFolder, IsTheModelThatItsGgufIs) {
  for (const char* format : {"F32", "BF16", "F16"}) {
    TinyModel tiny;
    tiny.format = format;
    tiny.write(gguf);
    const Gguf file(gguf);
    TinyFolder(file).write(folder);
    EXPECT_EQ(logits(folder, ids), logits(gguf, ids)) << format;
    const auto a = Model::open(gguf), b = Model::open(folder);
    EXPECT_TRUE(a->same_tokens(*b));
    EXPECT_EQ(a->config.head_dim, b->config.head_dim);
    EXPECT_EQ(b->tokenizer->spec().bos, 256);
    EXPECT_EQ(b->tokenizer->encode_special("Hi 12<|im_end|>", true), a->tokenizer->encode_special("Hi 12<|im_end|>", true));
    EXPECT_TRUE(b->tokenizer->is_end(TinyModel::kEnd) && b->tokenizer->is_end(TinyModel::kEnd + 1));
    EXPECT_TRUE(b->chat_template);
    EXPECT_EQ(open_model_file(folder).string("general.name"), "tiny");
  }
}

TEST_F(HfFolder, ShardsTiedHeadsAndNamesWithoutAPrefixAreUnderstood) {
  EXPECT_EQ(refusal([](TinyFolder& f) { f.config["vocab_size"] = 259.0; }), "");
  // the head twice, and tables that can be computed
  const float table[4] = {};
  EXPECT_EQ(refusal([&](TinyFolder& f) {
              f.config["tie_word_embeddings"] = true;
              f.items.push_back(f32_item("model.layers.0.self_attn.rotary_emb.inv_freq", {4}, table));
            }),
            "");
  EXPECT_TRUE(Model::open(folder)->config.tied);
  EXPECT_EQ(refusal([](TinyFolder& f) {
              for (SafetensorsItem& t : f.items)
                if (t.name.starts_with("model.")) t.name.erase(0, 6);
            }),
            "");
  TinyModel().write(gguf);
  const Gguf file(gguf);
  TinyFolder tiny(file);
  fs::remove_all(folder);
  tiny.write(folder);
  fs::remove(folder / "model.safetensors");
  nlohmann::json map;
  std::vector<SafetensorsItem> halves[2];
  for (size_t i = 0; i < tiny.items.size(); i++) {
    halves[i % 2].push_back(tiny.items[i]);
    map[tiny.items[i].name] = "model-0000" + std::to_string(i % 2 + 1) + "-of-00002.safetensors";
  }
  for (int i : {0, 1}) write_safetensors(folder / ("model-0000" + std::to_string(i + 1) + "-of-00002.safetensors"), halves[i]);
  write_text(folder / "model.safetensors.index.json", nlohmann::json{{"weight_map", map}}.dump());
  EXPECT_EQ(logits(folder, ids), logits(gguf, ids));
  EXPECT_EQ(model_files(folder).size(), 7u);
  const std::string digest = model_digest(folder);
  write_text(folder / "generation_config.json", "{}");
  EXPECT_NE(model_digest(folder), digest);
}

TEST_F(HfFolder, Llama3sScalingBecomesFactors) {
  EXPECT_EQ(refusal([](TinyFolder& f) {
              f.config["rope_scaling"] = {{"rope_type", "llama3"},
                                          {"factor", 8.0},
                                          {"low_freq_factor", 1.0},
                                          {"high_freq_factor", 4.0},
                                          {"original_max_position_embeddings", 128}};
            }),
            "");
  const Gguf file = open_model_file(folder);
  const auto* factors = reinterpret_cast<const float*>(file.tensor("rope_freqs.weight").bytes.data());
  EXPECT_EQ(factors[0], 1);  // a wave of 6 tokens
  EXPECT_EQ(factors[7], 8);  // one of 20,000
  // 2 pi 10000^(4/16) = 62.8 tokens: 128 / 62.8 = 2.037, a share of 0.3457 is as it was
  EXPECT_NEAR(factors[2], 1 / ((1 - 0.3457) / 8 + 0.3457), 1e-3);
}

TEST_F(HfFolder, WhatIsBrokenIsNamed) {
  using F = TinyFolder;
  const auto expect = [&](const std::string& part, const std::function<void(F&)>& change) {
    EXPECT_NE(refusal(change).find(part), std::string::npos) << part << " is not in: " << refusal(change);
  };
  expect("config.json: model_type 'mamba' is not supported", [](F& f) { f.config["model_type"] = "mamba"; });
  expect("config.json: says no model_type", [](F& f) { f.config.erase("model_type"); });
  expect("config.json: hidden_size is missing", [](F& f) { f.config.erase("hidden_size"); });
  expect("config.json: num_hidden_layers is not an integer", [](F& f) { f.config["num_hidden_layers"] = "2"; });
  expect("config.json: num_attention_heads is not above 0", [](F& f) { f.config["num_attention_heads"] = 0; });
  expect("config.json: hidden_size is not an integer", [](F& f) { f.config["hidden_size"] = 1e300; });
  expect("config.json: head_dim is not", [](F& f) { f.config["head_dim"] = 2000000000; });
  expect("config.json: rope_theta is not a finite number", [](F& f) { f.config["rope_theta"] = "big"; });
  expect("original_max_position_embeddings is not below 2^31", [](F& f) {
    f.config["rope_scaling"] = {{"type", "yarn"}, {"factor", 2.0}, {"original_max_position_embeddings", 1e300}};
  });
  expect("positions are scaled as 'dynamic'", [](F& f) { f.config["rope_scaling"] = {{"type", "dynamic"}, {"factor", 2.0}}; });
  expect("hidden_act is 'gelu'", [](F& f) { f.config["hidden_act"] = "gelu"; });
  expect("tensor vision.weight: is no part of a llama", [](F& f) { f.items.push_back(f.items[0]), f.items.back().name = "vision.weight"; });
  expect("which 3 heads do not divide", [](F& f) { f.config["num_attention_heads"] = 3; });
  expect("lm_head.weight, though", [](F& f) { std::erase_if(f.items, [](auto& t) { return t.name == "lm_head.weight"; }); });
  expect("tensor \"model.layers.1.self_attn.v_proj.weight\" is missing",
         [](F& f) { std::erase_if(f.items, [](auto& t) { return t.name == "model.layers.1.self_attn.v_proj.weight"; }); });
  expect("has no embedding", [](F& f) { std::erase_if(f.items, [](auto& t) { return t.name == "model.embed_tokens.weight"; }); });
  expect("tokenizer.json: has 901 tokens, and the embedding has 259 rows", [](F& f) {
    f.tokenizer["added_tokens"].push_back({{"id", 900}, {"content", "far"}});
  });
  expect("tokenizer.json: model: the id of token 'under'", [](F& f) { f.tokenizer["model"]["vocab"]["under"] = -1; });
  expect("both have the id 5", [](F& f) { f.tokenizer["model"]["vocab"]["again"] = 5; });
  expect("merge 0 is not two tokens", [](F& f) { f.tokenizer["model"]["merges"] = {7}; });
  expect("unknown normalizer 'Magic'", [](F& f) { f.tokenizer["normalizer"] = {{"type", "Magic"}}; });
  expect("eos_token_id is 4000", [](F& f) { f.generation_config["eos_token_id"] = {1, 4000}; });
  const auto after = [&](const std::string& part, const std::function<void()>& change) {
    EXPECT_NE(refusal([](F&) {}, change).find(part), std::string::npos) << part;
  };
  after("is no model: it has no config.json", [&] { fs::remove(folder / "config.json"); });
  after("has no tokenizer.json", [&] { fs::remove(folder / "tokenizer.json"); });
  after("config.json: is longer than", [&] { write_text(folder / "config.json", "{\"a\":\"" + std::string(5 << 20, 'a') + "\"}"); });
  after("config.json: is not a JSON object", [&] { write_text(folder / "config.json", "[]"); });
  after("nested deeper", [&] { write_text(folder / "config.json", "{\"a\":" + std::string(1000, '[') + std::string(1000, ']') + "}"); });
  after("holds a number that is too large", [&] { write_text(folder / "config.json", "{\"a\": 1e999}"); });
  after("is not valid JSON", [&] { write_text(folder / "config.json", "{\"model_type\": "); });
  after("pickle", [&] { fs::rename(folder / "model.safetensors", folder / "pytorch_model.bin"); });
}

// A field of a protobuf message: 0 a number, 2 bytes, 5 a float.
std::string field(int number, const std::string& bytes) { return std::string{char(number << 3 | 2), char(bytes.size())} + bytes; }
std::string field(int number, int value) { return {char(number << 3), char(value)}; }
std::string field(int number, float value) {
  return std::string(1, char(number << 3 | 5)) + std::string(reinterpret_cast<const char*>(&value), 4);
}

TEST_F(HfFolder, ReadsTheVocabularyOfATokenizerModel) {
  std::string pieces;
  const auto piece = [&](const std::string& name, float score, int type) {
    pieces += field(1, field(1, name) + field(2, score) + (type == 1 ? "" : field(3, type)));
  };
  piece("<unk>", 0, 2), piece("<s>", 0, 3), piece("</s>", 0, 3);
  for (int b = 0; b < 250; b++) {
    char name[8];
    std::snprintf(name, sizeof name, "<0x%02X>", unsigned(b));
    piece(name, 0, 6);
  }
  piece("\u2581", -1, 1), piece("a", -2, 1), piece("b", -3, 1), piece("ab", -0.5f, 1), piece("\u2581ab", -0.25f, 1);
  const std::string bpe = field(2, field(3, 2)) + field(3, field(1, std::string("identity")) + field(3, 1)) + field(9, std::string("more"));
  const auto opened = [&](const std::string& model) {
    return refusal(
        [](TinyFolder& f) {
          f.tokenizer_config = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};
          f.tokenizer_config["added_tokens_decoder"]["258"] = {{"content", "<|end|>"}, {"special", true}};
          f.generation_config = {{"eos_token_id", {2, 258}}};
        },
        [&] {
          fs::remove(folder / "tokenizer.json");
          write_text(folder / "tokenizer.model", model);
        });
  };
  EXPECT_EQ(opened(pieces + bpe), "");
  const auto model = Model::open(folder);
  EXPECT_EQ(model->tokenizer->encode("ab a"), (std::vector<int>{257, 253, 254}));
  EXPECT_EQ(model->tokenizer->encode_special("ab<|end|>", true), (std::vector<int>{1, 257, 258}));
  EXPECT_TRUE(model->tokenizer->is_end(258) && model->tokenizer->is_end(2));
  EXPECT_NE(opened(pieces).find("tokenizer.model: is a SentencePiece model of kind 1"), std::string::npos);
  EXPECT_NE(opened(pieces + bpe + field(3, field(2, std::string("x")))).find("precompiled normalizer"), std::string::npos);
  EXPECT_NE(opened((pieces + bpe).substr(0, pieces.size() - 3)).find("damaged"), std::string::npos);
  EXPECT_NE(opened("").find("no pieces"), std::string::npos);
  EXPECT_NE(opened(std::string(40, '\xff')).find("damaged"), std::string::npos);
  EXPECT_NE(opened(field(1, field(1, std::string("a")) + field(3, 9))).find("unknown type 9"), std::string::npos);
  for (int i = 0; i < 5; i++) piece("more" + std::to_string(i), 0, 1);
  EXPECT_NE(opened(pieces + bpe).find("more pieces"), std::string::npos);
}

TEST_F(HfFolder, ATokenizersRulesGoWithTheModel) {
  EXPECT_EQ(refusal([](TinyFolder& f) { f.tokenizer["normalizer"] = {{"type", "Lowercase"}}; }), "");
  const auto model = Model::open(folder);
  EXPECT_EQ(model->tokenizer->encode("AbC"),
            (std::vector<int>{model->tokenizer->find("a"), model->tokenizer->find("b"), model->tokenizer->find("c")}));
  // GGUF has no word for it: the file itself goes along, and comes out as it came in
  EXPECT_EQ(model->file->string("tokenizer.huggingface.json"), read_text(folder / "tokenizer.json"));
  write_hf(*model->file, root / "again", {.type = find_format("F32")});
  EXPECT_EQ(read_text(root / "again" / "tokenizer.json"), read_text(folder / "tokenizer.json"));
  EXPECT_EQ(refusal([](TinyFolder&) {}), "");
  EXPECT_FALSE(open_model_file(folder).has("tokenizer.huggingface.json")) << "GGUF's keys say all of it";
}

TEST_F(HfFolder, WeightsThatAreNotFiniteAreNotWritten) {
  for (const char* format : {"F32", "F16"}) {  // the type that they are copied in, and another
    TinyModel tiny;
    tiny.format = format;
    tiny.write(gguf);
    const Gguf file(gguf);
    const Tensor& t = file.tensor("blk.1.ffn_up.weight");
    std::string bytes = read_text(gguf);
    const size_t at = bytes.find(std::string(reinterpret_cast<const char*>(t.bytes.data()), t.bytes.size()));
    bytes.replace(at, 4, 4, char(0xff));
    write_text(gguf, bytes);
    try {
      write_hf(Gguf(gguf), folder, {.type = find_format("F32")});
      FAIL() << format;
    } catch (const Error& e) {
      EXPECT_NE(e.text().find("blk.1.ffn_up.weight: holds weights that are not finite"), std::string::npos) << e.text();
    }
    EXPECT_FALSE(fs::exists(folder));
  }
}

TEST_F(HfFolder, WhatIsWrittenIsTheSameModel) {
  for (const char* format : {"F32", "BF16", "F16"}) {
    TinyModel tiny;
    tiny.format = format;
    tiny.write(gguf);
    const Gguf file(gguf);
    EXPECT_EQ(hf_format(file), find_format(format));
    uint64_t told = 0;
    // norms are F32 in the GGUF and rounded here
    const bool exact = std::string(format) == "F32";
    write_hf(file, folder, {.type = find_format(format), .shard_bytes = 40000, .progress = [&](uint64_t done, uint64_t) { told = done; }});
    EXPECT_GT(told, 0u);
    EXPECT_TRUE(fs::exists(folder / "model.safetensors.index.json"));
    if (exact) {
      EXPECT_EQ(logits(folder, ids), logits(gguf, ids));
    }
    const auto a = Model::open(gguf), b = Model::open(folder);
    EXPECT_TRUE(a->same_tokens(*b));
    EXPECT_EQ(read_chat_template(*a->file), read_chat_template(*b->file));
    EXPECT_EQ(a->tokenizer->spec().eos, b->tokenizer->spec().eos);
    // and back: every tensor byte for byte
    const fs::path again = root / "again";
    write_hf(*b->file, again, {.type = find_format(format)});
    std::map<std::string, std::vector<std::byte>> first, second;
    for (const auto& [path, tensors] : {std::pair(folder, &first), {again, &second}})
      for (const Safetensors& part : open_safetensors(path))
        for (const NamedTensor& t : part.tensors()) (*tensors)[t.name] = {t.tensor.bytes.begin(), t.tensor.bytes.end()};
    EXPECT_EQ(first, second) << format;
    EXPECT_EQ(first.size(), file.tensors().size());
    // what stands there is replaced, and nothing is left beside it
    write_hf(file, folder, {.type = find_format(format)});
    EXPECT_FALSE(fs::exists(folder / "model.safetensors.index.json"));
    size_t entries = 0;
    for ([[maybe_unused]] const auto& entry : fs::directory_iterator(root)) entries++;
    EXPECT_EQ(entries, 3u);
  }
}

TEST_F(HfFolder, ScaledPositionsGoThereAndBack) {
  const nlohmann::json rules[] = {
      {{"rope_type", "llama3"},
       {"factor", 8.0},
       {"low_freq_factor", 1.0},
       {"high_freq_factor", 4.0},
       {"original_max_position_embeddings", 128}},
      {{"rope_type", "linear"}, {"factor", 2.0}},
      {{"rope_type", "yarn"}, {"factor", 4.0}, {"original_max_position_embeddings", 128}, {"beta_fast", 30.0}},
  };
  for (const nlohmann::json& rule : rules) {
    refusal([&](TinyFolder& f) { f.config["rope_scaling"] = rule; });
    write_hf(open_model_file(folder), root / "again", {.type = find_format("F32")});
    const auto again = nlohmann::json::parse(read_text(root / "again" / "config.json"));
    for (const auto& [key, value] : rule.items()) EXPECT_EQ(again["rope_scaling"][key], value) << rule << again["rope_scaling"];
    const Gguf a = open_model_file(folder), b = open_model_file(root / "again");
    EXPECT_EQ(a.real("llama.rope.scaling.factor"), b.real("llama.rope.scaling.factor"));
    EXPECT_EQ(bool(a.find("rope_freqs.weight")), bool(b.find("rope_freqs.weight")));
  }
}

}  // namespace
}  // namespace fettle
