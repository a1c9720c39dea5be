// Models as Hugging Face folders, split GGUFs and Modelfiles, through the program itself.
#include "../../tests/tiny_folder.h"
#include "cli/test_program.h"

namespace fettle {
namespace {

struct Folders : Program {
  fs::path tiny_folder() const {
    const Gguf gguf(tiny());
    TinyFolder(gguf).write(at("hf"));
    return at("hf");
  }
};

TEST_F(Folders, EveryCommandTakesThem) {
  tiny_folder();
  EXPECT_EQ(run("tokenize hf/", "Hello 12").out, run("tokenize tiny.gguf", "Hello 12").out);
  EXPECT_EQ(run("run ./hf --raw --temperature 0 --max-tokens 8 abc").out,
            run("run tiny.gguf --raw --temperature 0 --max-tokens 8 abc").out);
  const Json seen = run("inspect hf/ --json").json();
  EXPECT_EQ(seen["architecture"], "llama");
  EXPECT_EQ(seen["parameters"], run("inspect tiny.gguf --json").json()["parameters"]);
  EXPECT_EQ(seen["bits_per_weight"], 32.0);
  EXPECT_EQ(seen["digest"].get<std::string>().size(), 64u);
  EXPECT_EQ(seen["tensors"].size(), run("inspect tiny.gguf --json").json()["tensors"].size());
  const Json difference = run("diff tiny.gguf hf/ --json").json();
  EXPECT_TRUE(difference["tensors"].empty()) << difference["tensors"];
  const Outcome small = run("quantize hf/ --type Q8_0 --out small.gguf --json");
  ASSERT_EQ(small.code, 0) << small.err;
  EXPECT_EQ(run("diff tiny.gguf small.gguf --json").json()["tensors"].size(), 16u);
  const Json lineage = run("inspect small.gguf --json").json()["lineage"];
  EXPECT_EQ(lineage["recipe"]["inputs"]["source"], seen["digest"]);
  EXPECT_EQ(run("inspect scratch/").code, 3);
  fs::remove(at("hf") / "config.json");
  const Outcome none = run("inspect hf/");
  EXPECT_EQ(none.code, 3);
  EXPECT_NE(none.err.find("without config.json"), std::string::npos) << none.err;
}

TEST_F(Folders, ConvertWritesThem) {
  tiny();
  const Outcome made = run("convert tiny.gguf --to hf --out made --json");
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.json()["types"], (Json{{"F32", 21}}));
  EXPECT_EQ(run("diff tiny.gguf made/ --json").json()["tensors"].size(), 0u);
  EXPECT_EQ(run("inspect made/ --json").json()["lineage"]["recipe"]["inputs"]["to"], "hf");
  EXPECT_EQ(run("convert tiny.gguf --to hf --out made").code, 2);
  EXPECT_EQ(run("convert tiny.gguf --to hf --out made --force").code, 0);
  fs::create_directories(at("mine"));
  EXPECT_EQ(run("convert tiny.gguf --to hf --out mine --force").code, 2) << "no folder of something else is replaced";
  EXPECT_EQ(run("convert tiny.gguf --to hf --type Q8_0 --out other").code, 2);
  EXPECT_NE(run("convert tiny.gguf --type F16 --out half.gguf").err.find("convert: done"), std::string::npos)
      << "the bar says what is done";
  EXPECT_EQ(run("convert made --to hf --out made --force").code, 2);
  EXPECT_EQ(run("convert made/ --to gguf --type F32 --out back.gguf").code, 0);
  EXPECT_EQ(run("diff tiny.gguf back.gguf --json").json()["tensors"].size(), 0u);
  const Outcome plan = run("convert tiny.gguf --to hf --out planned --dry-run --json");
  EXPECT_EQ(plan.json()["dry_run"], true) << plan.err;
  EXPECT_FALSE(fs::exists(at("planned")));
}

TEST_F(Folders, PackedOnesAreCheckedBeforeTheyAreWritten) {
  tiny();
  for (const std::string how : {"--to gptq --group 128", "--to gptq --group 128 --dry-run", "--to awq --group 128 --dry-run"}) {
    const Outcome wrong = run("convert tiny.gguf --out packed " + how);
    EXPECT_EQ(wrong.code, 3) << how;
    EXPECT_NE(wrong.err.find("blk.0.attn_q.weight: is 64 x 64"), std::string::npos) << wrong.err;
  }
  ASSERT_EQ(run("quantize tiny.gguf --type Q4_0 --out small.gguf").code, 0);
  const Outcome plan = run("convert small.gguf --to gptq --bits 8 --out packed --dry-run --json");
  ASSERT_EQ(plan.code, 0) << plan.err;
  EXPECT_FALSE(fs::exists(at("packed")));
  const Outcome made = run("convert small.gguf --to gptq --bits 8 --out packed --json");
  ASSERT_EQ(made.code, 0) << made.err;
  for (const char* key : {"bytes", "bits_per_weight", "types", "remarks"}) EXPECT_EQ(plan.json()["plan"][key], made.json()[key]) << key;
  EXPECT_NE(made.json()["remarks"].dump().find("larger than its source"), std::string::npos) << made.out;
  EXPECT_EQ(made.err.find("quantize:"), std::string::npos) << made.err;
  EXPECT_NE(made.err.find("convert:"), std::string::npos) << made.err;
  EXPECT_EQ(run("convert tiny.gguf --to gptq --bits 8 --out smaller --json").json()["remarks"].size(), 0u);
}

TEST_F(Folders, AModelfileSaysTheChatFormat) {
  tiny_folder();
  const Outcome made = run("convert tiny.gguf --to ollama --out Modelfile --json");
  ASSERT_EQ(made.code, 0) << made.err;
  EXPECT_EQ(made.json()["chat_format"], "chatml");
  EXPECT_EQ(read_text(at("Modelfile")),
            "FROM " + at("tiny.gguf").lexically_normal().string() +
                "\nTEMPLATE \"\"\"{{ range .Messages }}{{ if eq .Role \"system\" }}<|im_start|>system\n{{ .Content }}<|im_end|>\n"
                "{{ else if eq .Role \"user\" }}<|im_start|>user\n{{ .Content }}<|im_end|>\n"
                "{{ else if eq .Role \"assistant\" }}<|im_start|>assistant\n{{ .Content }}<|im_end|>\n{{ end }}{{ end }}"
                "<|im_start|>assistant\n\"\"\"\nPARAMETER stop \"<|im_end|>\"\nPARAMETER stop \"<|endoftext|>\"\n");
  const Outcome whole = run("convert hf/ --to ollama --type Q8_0 --json");
  ASSERT_EQ(whole.code, 0) << whole.err;
  EXPECT_TRUE(read_text(at("hf.Modelfile")).starts_with("FROM ./hf-Q8_0.gguf\n"));
  EXPECT_TRUE(fs::exists(at("hf-Q8_0.gguf")));
}

TEST_F(Folders, ExpertsAreTheSameInAStackAndApart) {
  TinyModel{.experts = 3}.write(at("moe.gguf"));
  ASSERT_EQ(run("convert moe.gguf --to hf --type F32 --out moe").code, 0);
  EXPECT_TRUE(run("diff moe.gguf moe/ --json").json()["tensors"].empty());
  EXPECT_TRUE(run("diff moe/ moe.gguf --json").json()["tensors"].empty());
  TinyModel{.experts = 3, .seed = 2}.write(at("other.gguf"));
  EXPECT_GT(run("diff other.gguf moe/ --json").json()["tensors"].size(), 9u);
}

TEST_F(Folders, SplitSetsAreOneModel) {
  const Gguf whole(tiny());
  for (uint64_t part = 0; part < 2; part++) {
    GgufWriter writer;
    if (part == 0) writer.copy_metadata(whole);
    const auto number = [&](const char* key, GgufValue::Type type, uint64_t value) { writer.set(key, {type, {}, value}); };
    number("split.no", GgufValue::Type::u16, part);
    number("split.count", GgufValue::Type::u16, 2);
    writer.set("split.tensors.count", {GgufValue::Type::i32, {}, int64_t(whole.tensors().size())});
    for (size_t i = 0; i < whole.tensors().size(); i++)
      if (i / 10 == part || (part == 1 && i >= 20))
        writer.add(whole.tensors()[i].name, whole.tensors()[i].tensor.format, whole.tensors()[i].tensor.shape,
                   [&, i] { return whole.tensors()[i].tensor.bytes; });
    writer.write(at("split-0000" + std::to_string(part + 1) + "-of-00002.gguf"));
  }
  const fs::path first = at("split-00001-of-00002.gguf"), second = at("split-00002-of-00002.gguf");
  const Json seen = run("inspect " + first.string() + " --json").json();
  EXPECT_EQ(seen["bytes"], fs::file_size(first) + fs::file_size(second));
  EXPECT_EQ(seen["tensors"].size(), whole.tensors().size());
  EXPECT_EQ(seen["digest"], sha256_hex(sha256_file(first) + "  " + first.filename().string() + "\n" + sha256_file(second) + "  " +
                                       second.filename().string() + "\n"));
  EXPECT_TRUE(run("diff tiny.gguf " + first.string() + " --json").json()["tensors"].empty());
  EXPECT_EQ(run("convert " + first.string() + " --type F32 --out one.gguf").code, 0);
  EXPECT_TRUE(run("diff tiny.gguf one.gguf --json").json()["tensors"].empty());
  EXPECT_NE(run("pull " + first.string()).err.find("of a set of 2"), std::string::npos);
}

// A folder's user has its names, and never saw GGUF's.
TEST_F(Folders, AreRefusedInTheirOwnWords) {
  const Gguf gguf(tiny());
  const auto refusal = [&](const std::function<void(TinyFolder&)>& change) {
    TinyFolder folder(gguf);
    change(folder);
    fs::remove_all(at("bad"));
    folder.write(at("bad"));
    const Outcome end = run("run bad --raw abc");
    EXPECT_EQ(end.code, 3) << end.err;
    for (const char* word : {"blk.", "llama.", "output_norm", "token_embd", "tokenizer.ggml"})
      EXPECT_EQ(end.err.find(word), std::string::npos) << end.err;
    return end.err;
  };
  const auto without = [](const std::string& name) {
    return [=](TinyFolder& f) { std::erase_if(f.items, [&](const SafetensorsItem& item) { return item.name == name; }); };
  };
  EXPECT_NE(refusal(without("model.norm.weight")).find("bad: tensor \"model.norm.weight\" is missing"), std::string::npos);
  EXPECT_NE(refusal(without("model.layers.1.mlp.up_proj.weight")).find("\"model.layers.1.mlp.up_proj.weight\" is missing"),
            std::string::npos);
  EXPECT_NE(refusal([](TinyFolder& f) { f.config["num_hidden_layers"] = 5000; }).find("bad/config.json: num_hidden_layers is 5000"),
            std::string::npos);
  EXPECT_NE(
      refusal([](TinyFolder& f) { f.config["intermediate_size"] = 96; }).find("bad: tensor model.layers.0.mlp.gate_proj.weight: has shape"),
      std::string::npos);
  const std::string merge = refusal([](TinyFolder& f) { f.tokenizer["model"]["merges"] = Json::array({"a nothing"}); });
  EXPECT_NE(merge.find("bad/tokenizer.json: merge 0 names an unknown token"), std::string::npos) << merge;
  const std::string number = refusal([](TinyFolder& f) {
    for (SafetensorsItem& item : f.items)
      if (item.name == "model.layers.1.mlp.up_proj.weight") {
        const auto was = item.bytes();
        auto bytes = std::make_shared<std::vector<std::byte>>(was.begin(), was.end());
        std::fill_n(bytes->begin() + 40, 4, std::byte{0xff});
        item.bytes = [bytes] { return std::span<const std::byte>(*bytes); };
      }
  });
  EXPECT_NE(number.find("bad: tensor model.layers.1.mlp.up_proj.weight: holds weights that are not finite"), std::string::npos) << number;
}

}  // namespace
}  // namespace fettle
