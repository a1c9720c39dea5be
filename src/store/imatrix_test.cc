// Importance files of both kinds; and what is refused.
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "format/format.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace fettle {
namespace {

class Imatrix : public ::testing::Test {
 protected:
  TestFolder folder;
  std::string dat;

  void i32(int32_t n) { dat.append(reinterpret_cast<const char*>(&n), 4); }
  void f32(float x) { dat.append(reinterpret_cast<const char*>(&x), 4); }
  fs::path legacy() {
    std::ofstream(folder / "x.dat", std::ios::binary) << dat;
    return folder / "x.dat";
  }
};

TEST_F(Imatrix, RoundTripAsGguf) {
  write_imatrix(folder / "x.gguf", {{"blk.0.attn_q.weight", {1, 2.5, 0}, 1000}, {"blk.0.ffn_down.weight", {4, 8}, 0}}, "tickets.jsonl");
  Gguf file(folder / "x.gguf");
  EXPECT_EQ(file.integer("imatrix.chunk_count"), 2);
  EXPECT_EQ(file.integer("imatrix.chunk_size"), 512);
  EXPECT_EQ(file.strings("imatrix.datasets"), std::vector<std::string>{"tickets.jsonl"});
  auto back = read_imatrix(folder / "x.gguf");
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].name, "blk.0.attn_q.weight");
  EXPECT_EQ(back[0].sum_squares, (std::vector<double>{1, 2.5, 0}));
  EXPECT_EQ(back[0].tokens, 1000);
  EXPECT_EQ(back[1].tokens, 0);
}

TEST_F(Imatrix, AddsUpExperts) {
  std::vector<float> sums = {1, 2, 3, 4}, counts = {10, 20}, plain = {5, 5};
  auto add = [&](GgufWriter& writer, const char* name, Shape shape, const std::vector<float>& values) {
    writer.add(name, find_format("F32"), shape, [&values] { return std::as_bytes(std::span(values)); });
  };
  GgufWriter writer;
  writer.set_string("general.type", "imatrix");
  add(writer, "e.weight.in_sum2", {2, 2}, sums);
  add(writer, "e.weight.counts", {2, 1}, counts);
  add(writer, "e.weight.in_sum", {2}, plain);  // newer files
  writer.write(folder / "x.gguf");
  auto back = read_imatrix(folder / "x.gguf");
  ASSERT_EQ(back.size(), 1u);
  EXPECT_EQ(back[0].sum_squares, (std::vector<double>{4, 6}));
  EXPECT_EQ(back[0].tokens, 30);
}

TEST_F(Imatrix, ReadsTheOlderKind) {
  i32(2);
  for (const char* name : {"blk.0.attn_q.weight", "output.weight"}) {
    i32(int32_t(std::string_view(name).size()));
    dat += name;
    i32(name[0] == 'b' ? 4 : 0);
    i32(2);
    f32(8), f32(2);
  }
  i32(4), i32(3), dat += "abc";
  auto back = read_imatrix(legacy());
  ASSERT_EQ(back.size(), 2u);
  EXPECT_EQ(back[0].name, "blk.0.attn_q.weight");
  EXPECT_EQ(back[0].tokens, 4);
  EXPECT_EQ(back[0].sum_squares, (std::vector<double>{8, 2}));
  EXPECT_EQ(back[1].tokens, 1);
}

TEST_F(Imatrix, RefusesBrokenFiles) {
  auto refusal = [&] { return error_of([&, path = legacy()] { read_imatrix(path); }); };
  EXPECT_NE(refusal().find("ends inside"), std::string::npos);
  i32(1 << 30);
  EXPECT_NE(refusal().find("entries"), std::string::npos);
  dat.clear(), i32(-1);
  EXPECT_NE(refusal().find("entries"), std::string::npos);
  dat.clear(), i32(1), i32(1), dat += "x", i32(1), i32(2147483647), f32(1);
  EXPECT_NE(refusal().find("length"), std::string::npos);
  dat.clear(), i32(1), i32(1), dat += "x", i32(1), i32(1), f32(NAN);
  EXPECT_NE(refusal().find("not finite"), std::string::npos);
  dat.clear(), i32(1), i32(1), dat += "x", i32(1), i32(1), f32(-1);
  EXPECT_NE(refusal().find("negative"), std::string::npos);
  dat.clear(), i32(2);
  for (int i = 0; i < 2; i++) i32(1), dat += "x", i32(1), i32(1), f32(1);
  EXPECT_NE(refusal().find("twice"), std::string::npos);
  GgufWriter().write(folder / "model.gguf");
  EXPECT_NE(error_of([&] { read_imatrix(folder / "model.gguf"); }).find("no importance file"), std::string::npos);
}

}  // namespace
}  // namespace fettle
