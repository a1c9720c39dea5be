// Folders with packed weights: written from a tiny model, opened as a model again.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "../../tests/tiny_model.h"
#include "format/format.h"
#include "model/model.h"

namespace fettle {
namespace {

std::vector<float> decoded(const Tensor& t) {
  std::vector<float> weights(size_t(t.shape.count()));
  t.format->decode(t.bytes.data(), weights.data(), t.shape.count());
  return weights;
}

std::vector<float> logits(Model& model, Precision precision) {
  Pool pool(1);
  Arena arena;
  KvCache kv(model.kv_shape(), find_format("F32"), 1, 256);
  const std::vector<int> ids{72, 101, 108, 108, 111, 256, 3, 250, 17};
  EXPECT_TRUE(kv.reserve(0, int(ids.size())));
  Batch batch;
  batch.add(0, 0, ids, true, true);
  Run run{arena, pool, &kv, nullptr, nullptr, precision};
  Var* y = model.logits(run, batch);
  return {y->data, y->data + y->count()};
}

double relative(const std::vector<float>& a, const std::vector<float>& b) {
  double error = 0, size = 0;
  for (size_t i = 0; i < a.size(); i++) error += std::pow(a[i] - b[i], 2), size += std::pow(b[i], 2);
  return std::sqrt(error / size);
}

class PackedFolder : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    root = fs::temp_directory_path() / ("fettle-packed-" + std::to_string(::getpid()));
    fs::create_directories(root);
    TinyModel{.d_model = 128, .d_ff = 256}.write(root / "tiny.gguf");
  }
  void TearDown() override { fs::remove_all(root); }
  fs::path root;
};
INSTANTIATE_TEST_SUITE_P(Kinds, PackedFolder, testing::Values("gptq", "awq", "nf4"),
                         [](const auto& info) { return std::string(info.param); });

TEST_P(PackedFolder, IsTheModelThatWasPacked) {
  const auto packer = weight_packer(GetParam(), 4, 64);
  const Gguf file(root / "tiny.gguf");
  std::map<std::string, std::vector<float>> packed;  // what weights are once they are on the grid
  const auto encode = [&](const NamedTensor& t) {
    const Format& f = *packer->format();
    const std::vector<float> weights = decoded(t.tensor);
    std::vector<std::byte> blocks(size_t(f.bytes_for(t.tensor.shape.count())));
    f.encode(weights.data(), blocks.data(), t.tensor.shape.count(), nullptr);
    packed[t.name] = decoded({&f, t.tensor.shape, blocks});
    return blocks;
  };
  const HfWritten written = write_hf(file, root / "folder", {.type = find_format("F32"), .packer = packer.get(), .encode = encode});
  EXPECT_GT(written.tensors, int(file.tensors().size()));
  const auto config = nlohmann::json::parse(read_text(root / "folder" / "config.json"));
  EXPECT_EQ(config["quantization_config"], packer->config());

  const auto model = Model::open(root / "folder");
  int linears = 0;
  for (const Linear* l : model->linears()) {
    const std::vector<float> ours = decoded(l->weight), source = decoded(*file.find(l->name));
    EXPECT_GT(l->weight.format->group, 0) << l->name;
    if (packer->format()) {
      EXPECT_EQ(ours, packed.at(l->name)) << l->name;
    } else {
      EXPECT_LT(relative(ours, source), 0.12) << l->name;
    }
    linears++;
  }
  EXPECT_EQ(linears, 14);
  EXPECT_EQ(decoded(*model->file->find("token_embd.weight")), decoded(*file.find("token_embd.weight"))) << "what is no linear stays";
  // codes are multiplied as they are: serving is as near to plain arithmetic as with any format
  EXPECT_LT(relative(logits(*model, Precision::serving), logits(*model, Precision::exact)), 0.03);
}

TEST_P(PackedFolder, TensorsThatBelongToNoWeightAreRefused) {
  const auto packer = weight_packer(GetParam(), 4, 64);
  const Gguf file(root / "tiny.gguf");
  const auto encode = [&](const NamedTensor& t) {
    std::vector<std::byte> blocks(size_t(packer->format()->bytes_for(t.tensor.shape.count())));
    packer->format()->encode(decoded(t.tensor).data(), blocks.data(), t.tensor.shape.count(), nullptr);
    return blocks;
  };
  write_hf(file, root / "folder", {.type = find_format("F16"), .packer = packer.get(), .encode = encode});
  auto config = nlohmann::json::parse(read_text(root / "folder" / "config.json"));
  const auto refusal = [&] {
    write_text(root / "folder" / "config.json", config.dump());
    try {
      Model::open(root / "folder");
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::refused);
      return e.text();
    }
    return std::string();
  };
  EXPECT_EQ(refusal(), "");
  config["quantization_config"]["quant_method"] = "of 2030";
  EXPECT_NE(refusal().find("of 2030"), std::string::npos);
  config.erase("quantization_config");
  EXPECT_NE(refusal(), "") << "codes without a word about them";
}

}  // namespace
}  // namespace fettle
