// Merging adapters, and what a coarse grid leaves of them.
#include "compress/test_files.h"

namespace fettle {
namespace {

LoraFile adapter(int rank, bool stabilised = false) {
  LoraFile lora;
  lora.alpha = 8;
  lora.rank_stabilised = stabilised;
  lora.architecture = "llama";
  Random random(5);
  LoraPair p{"blk.1.ffn_down.weight", rank, 128, 64, {}, {}};
  for (int i = 0; i < rank * 128; i++) p.a.push_back(0.1f * float(random.normal()));
  for (int i = 0; i < rank * 64; i++) p.b.push_back(0.1f * float(random.normal()));
  lora.pairs = {p};
  return lora;
}

LoraFile with_magnitudes(LoraFile lora) {
  Random random(6);
  for (int i = 0; i < lora.pairs[0].out; i++) lora.pairs[0].magnitude.push_back(0.5f + float(random.uniform()));
  return lora;
}

// Far less than a step of a 4-bit grid.
LoraFile small_adapter() {
  LoraFile lora = adapter(4);
  for (float& b : lora.pairs[0].b) b *= 0.02f;
  return lora;
}

TEST_F(CompressTest, MergeAddsTheProductAndTouchesNothingElse) {
  Pool pool(2);
  for (bool stabilised : {false, true}) {
    auto model = Model::open(source_);
    const LoraFile lora = adapter(4, stabilised);
    merge(*model, lora, folder_ / "merged.gguf", "same", pool);
    const Gguf merged(folder_ / "merged.gguf");
    const LoraPair& p = lora.pairs[0];
    const std::vector<float> before = weights(*model->file, p.name), after = weights(merged, p.name);
    const double scale = stabilised ? 8 / std::sqrt(4.0) : 8 / 4.0;
    for (size_t o = 0; o < 64; o++)
      for (size_t i = 0; i < 128; i++) {
        double delta = 0;
        for (size_t r = 0; r < 4; r++) delta += double(p.b[o * 4 + r]) * double(p.a[r * 128 + i]);
        ASSERT_NEAR(after[o * 128 + i], before[o * 128 + i] + scale * delta, 1e-5);
      }
    for (const NamedTensor& t : model->file->tensors()) {
      if (t.name == p.name) continue;
      EXPECT_TRUE(std::ranges::equal(t.tensor.bytes, merged.tensor(t.name).bytes)) << t.name;
    }
  }
}

// Of DoRA, rows of what is merged have the lengths that it gives them.
TEST_F(CompressTest, MergedRowsHaveTheirMagnitudes) {
  Pool pool(2);
  auto model = Model::open(source_);
  const LoraFile lora = with_magnitudes(adapter(4));
  merge(*model, lora, folder_ / "merged.gguf", "F32", pool);
  const LoraPair& p = lora.pairs[0];
  const std::vector<float> rows = weights(Gguf(folder_ / "merged.gguf"), p.name);
  for (size_t o = 0; o < 64; o++) {
    double squares = 0;
    for (size_t i = 0; i < 128; i++) squares += double(rows[o * 128 + i]) * rows[o * 128 + i];
    EXPECT_NEAR(std::sqrt(squares), p.magnitude[o], 1e-5 * p.magnitude[o]);
  }
}

class MergedModel : public CompressTest, public testing::WithParamInterface<bool> {};
INSTANTIATE_TEST_SUITE_P(Magnitudes, MergedModel, testing::Bool());

TEST_P(MergedModel, ComputesWhatTheAdapterDid) {
  Pool pool(2);
  auto model = Model::open(source_);
  const LoraFile lora = GetParam() ? with_magnitudes(adapter(4)) : adapter(4);
  merge(*model, lora, folder_ / "merged.gguf", "F32", pool);
  auto merged = Model::open(folder_ / "merged.gguf");
  model->attach_lora(lora, "adapter");
  const auto logits = [&](Model& m) {
    Arena arena;
    Batch batch;
    const std::vector<int> ids{5, 6, 7, 8};
    batch.add(0, 0, ids);
    fettle::Run run{arena, pool, nullptr, nullptr, nullptr, Precision::exact};
    const Var* y = m.logits(run, batch);
    return std::vector<float>(y->data, y->data + y->count());
  };
  const std::vector<float> a = logits(*model), b = logits(*merged);
  model->detach_lora();
  const std::vector<float> base = logits(*model);
  double difference = 0, moved = 0;
  for (size_t i = 0; i < a.size(); i++) {
    difference = std::max(difference, std::fabs(double(a[i]) - double(b[i])));
    moved = std::max(moved, std::fabs(double(a[i]) - double(base[i])));
  }
  EXPECT_LT(difference, 1e-3);
  EXPECT_GT(moved, 0.01);
}

// Of a stack the expert that the adapter is for changes, and no other.
TEST_F(CompressTest, MergeFindsExpertsInTheirStack) {
  TinyModel{.experts = 4}.write(source_);
  Pool pool(2);
  auto model = Model::open(source_);
  LoraFile lora = adapter(4);
  lora.pairs[0].name = "blk.1.ffn_down.2.weight";
  merge(*model, lora, folder_ / "merged.gguf", "same", pool);
  const Gguf merged(folder_ / "merged.gguf");
  const LoraPair& p = lora.pairs[0];
  const std::vector<float> before = weights(*model->file, "blk.1.ffn_down_exps.weight"),
                           after = weights(merged, "blk.1.ffn_down_exps.weight");
  for (size_t o = 0; o < 4 * 64; o++)
    for (size_t i = 0; i < 128; i++) {
      double delta = 0;
      for (size_t r = 0; r < 4 && o / 64 == 2; r++) delta += double(p.b[o % 64 * 4 + r]) * double(p.a[r * 128 + i]);
      ASSERT_NEAR(after[o * 128 + i], before[o * 128 + i] + 2 * delta, 1e-5) << o << " " << i;
    }
  lora.pairs[0].name = "blk.1.ffn_down.4.weight";
  EXPECT_NE(message([&] { merge(*model, lora, folder_ / "no.gguf", "same", pool); }).find("does not have"), std::string::npos);
}

// The grid that held the base holds no step small enough for an adapter: what is left of it is told.
TEST_F(CompressTest, MergeTellsHowMuchOfASmallUpdateIsLeft) {
  Pool pool(2);
  const LoraFile lora = small_adapter();
  auto model = on_the_grid("coarse.gguf", pool);
  EXPECT_LT(merge(*model, lora, folder_ / "same.gguf", "same", pool), 0.5);
  EXPECT_NEAR(merge(*model, lora, folder_ / "half.gguf", "F16", pool), 1, 0.01);
}

// To a size: the base's own grid is the cheapest by its error, and would give the base back.
TEST_F(CompressTest, SizesDoNotUndoTraining) {
  Pool pool(2);
  const LoraFile lora = small_adapter();
  auto model = on_the_grid("base.gguf", pool);
  QuantizeOptions o;
  merge(*model, lora, folder_ / "tuned.gguf", "F16", pool);
  o.size_bytes = fs::file_size(folder_ / "base.gguf") + 1500;
  for (bool known : {false, true}) {
    if (known) o.origin = folder_ / "base.gguf";
    const QuantizeResult r = quantize(folder_ / "tuned.gguf", folder_ / "small.gguf", o, pool, nullptr);
    const std::string type = Gguf(folder_ / "small.gguf").tensor(lora.pairs[0].name).format->name;
    EXPECT_EQ(type == "Q4_1", !known) << type;
    if (known) {
      for (const std::string& remark : r.remarks) EXPECT_EQ(remark.find("quantized already"), std::string::npos) << remark;
    }
  }
}

TEST_F(CompressTest, MergeTypesAndRefusals) {
  Pool pool(2);
  auto model = Model::open(source_);
  merge(*model, adapter(4), folder_ / "merged.gguf", "q8_0", pool);
  EXPECT_STREQ(Gguf(folder_ / "merged.gguf").tensor("blk.1.ffn_down.weight").format->name, "Q8_0");
  EXPECT_STREQ(Gguf(folder_ / "merged.gguf").tensor("blk.0.ffn_down.weight").format->name, "F32");
  const auto refusal = [&](const LoraFile& lora, const std::string& type) {
    return message([&] { merge(*model, lora, folder_ / "x.gguf", type, pool); });
  };
  LoraFile wrong = adapter(4);
  wrong.pairs[0].out = 65;
  EXPECT_NE(refusal(wrong, "same").find("the model's tensor is"), std::string::npos);
  wrong = adapter(4);
  wrong.pairs[0].name = "blk.9.ffn_down.weight";
  EXPECT_NE(refusal(wrong, "same").find("blk.9"), std::string::npos);
  EXPECT_NE(refusal(adapter(4), "Q4_K_M").find("merge to F16 or Q8_0"), std::string::npos);
  EXPECT_NE(refusal(adapter(4), "Q9").find("there is no type 'Q9'"), std::string::npos);
  EXPECT_NE(message([&] { merge(*model, adapter(4), source_, "same", pool); }).find("same file"), std::string::npos);
}

}  // namespace
}  // namespace fettle
