// safetensors: what is read back, and every way a header can lie.
#include <gtest/gtest.h>

#include <fstream>

#include "format/format.h"
#include "store/store.h"
#include "store/test_folder.h"

namespace fettle {
namespace {

class SafetensorsFile : public ::testing::Test {
 protected:
  TestFolder folder;

  fs::path write(const std::string& header, size_t data_bytes) {
    uint64_t n = header.size();
    return write_raw(std::string(reinterpret_cast<const char*>(&n), 8) + header + std::string(data_bytes, '\1'));
  }
  fs::path write_raw(const std::string& bytes) {
    std::ofstream(folder / "x.safetensors", std::ios::binary) << bytes;
    return folder / "x.safetensors";
  }
  std::string refusal(const std::string& header, size_t data_bytes) {
    fs::path path = write(header, data_bytes);
    return error_of([&] { Safetensors file(path); });
  }
};

TEST_F(SafetensorsFile, RoundTrip) {
  std::vector<float> a = {1, 2, 3, 4, 5, 6}, b = {-1};
  write_safetensors(folder / "x.safetensors", {f32_item("b", {1}, b.data()), f32_item("a/\"ü", {2, 3}, a.data())});
  Safetensors file(folder / "x.safetensors");
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.metadata().at("format"), "pt");
  const Tensor* t = file.find("a/\"ü");
  ASSERT_TRUE(t);
  EXPECT_EQ(t->shape, (Shape{2, 3}));
  EXPECT_TRUE(std::ranges::equal(t->bytes, std::as_bytes(std::span(a))));
  EXPECT_EQ(uintptr_t(t->bytes.data()) % 4, 0u);
  EXPECT_EQ(file.find("c"), nullptr);
  Safetensors moved = std::move(file);
  EXPECT_TRUE(moved.find("b"));
}

TEST_F(SafetensorsFile, TellsTheUnusable) {
  Safetensors file(
      write(R"({"i":{"dtype":"I64","shape":[2],"data_offsets":[0,16]},"e":{"dtype":"F32","shape":[0,3],"data_offsets":[16,16]},)"
            R"("f":{"dtype":"F16","shape":[2],"data_offsets":[16,20]},"s":{"dtype":"BF16","shape":[],"data_offsets":[20,22]},)"
            R"("d":{"dtype":"F32","shape":[1,1,1,1,1],"data_offsets":[22,26]}}   )",
            26));
  ASSERT_EQ(file.unusable().size(), 3u);
  EXPECT_EQ(file.unusable()[0].name, "i");
  EXPECT_EQ(file.raw()[0].shape, (Shape{2}));
  EXPECT_EQ(file.raw()[0].bytes.size(), 16u);
  EXPECT_EQ(file.unusable()[1].why, "no elements");
  EXPECT_EQ(file.find("i"), nullptr);
  ASSERT_EQ(file.tensors().size(), 2u);
  EXPECT_EQ(file.find("f")->format, find_format("F16"));
  EXPECT_EQ(file.find("s")->shape.count(), 1);
}

TEST_F(SafetensorsFile, EmptyFileOfNothingIsWellFormed) { EXPECT_EQ(refusal("{}", 0), ""); }

TEST_F(SafetensorsFile, RefusesHeadersThatLie) {
  const std::string t = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":)";
  EXPECT_EQ(refusal(t + "[0,8]}}", 8), "");
  EXPECT_NE(refusal(t + "[0,8]}}", 7).find("cut short"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8]}}", 9).find("belong to no tensor"), std::string::npos);
  EXPECT_NE(refusal(t + "[4,12]}}", 12).find("belong to no tensor"), std::string::npos);
  EXPECT_NE(refusal(t + "[8,0]}}", 8).find("ends before"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,4]}}", 4).find("do not make"), std::string::npos);
  EXPECT_NE(refusal(t + "[0]}}", 8).find("two numbers"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8,8]}}", 8).find("two numbers"), std::string::npos);
  EXPECT_NE(refusal(t + "[-1,8]}}", 8).find("negative"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8.0]}}", 8).find("64-bit"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,99999999999999999999]}}", 8).find("64-bit"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8]},\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[8,16]}}", 16).find("twice"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8],\"dtype\":\"F32\"}}", 8).find("twice"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8]},\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[4,12]}}", 12).find("overlaps"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8]},\"b\":3}", 8).find("number"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8]}", 8).find("JSON"), std::string::npos);
  EXPECT_NE(refusal(t + "[0,8]}} x", 8).find("JSON"), std::string::npos);
  EXPECT_NE(refusal(t + "{\"x\":1}}}", 8).find("object"), std::string::npos);
}

TEST_F(SafetensorsFile, RefusesShapesAndTypesThatLie) {
  auto shaped = [&](const std::string& dtype, const std::string& shape) {
    return refusal("{\"a\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape + "],\"data_offsets\":[0,8]}}", 8);
  };
  EXPECT_EQ(shaped("F4", "16"), "");
  EXPECT_NE(shaped("F4", "17").find("do not make"), std::string::npos);
  EXPECT_NE(shaped("F33", "2").find("unknown dtype"), std::string::npos);
  EXPECT_NE(shaped("F32", "4294967296,4294967296").find("too large"), std::string::npos);
  EXPECT_NE(shaped("F32", "4611686018427387906").find("do not make"), std::string::npos);  // times 4 wraps to 8
  EXPECT_NE(shaped("F32", "18446744073709551615").find("too large"), std::string::npos);
  EXPECT_NE(shaped("F32", "[2]").find("list"), std::string::npos);
  std::string many = "1";
  for (int i = 0; i < 100000; i++) many += ",1";
  EXPECT_NE(shaped("F32", many).find("too many dimensions"), std::string::npos);
  EXPECT_NE(refusal(R"({"a":{"dtype":"F32","shape":[2]}})", 8).find("lacks"), std::string::npos);
  EXPECT_NE(refusal(R"({"":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8).find("without a name"), std::string::npos);
  EXPECT_NE(refusal(R"({"__metadata__":{"a":1}})", 0).find("number"), std::string::npos);
  EXPECT_NE(refusal(R"({"__metadata__":{"a":{"b":"c"}}})", 0).find("object"), std::string::npos);
  EXPECT_NE(refusal("{\"a\":" + std::string(1000000, '['), 0).find("list"), std::string::npos);
  EXPECT_NE(refusal("{\"a\":" + std::string(1000000, '{'), 0).find("JSON"), std::string::npos);
  EXPECT_NE(refusal("{\"\xff\":{}}", 0).find("JSON"), std::string::npos);
}

TEST_F(SafetensorsFile, RefusesWhatIsNoFileOfTheKind) {
  auto raw = [&](const std::string& bytes) {
    fs::path path = write_raw(bytes);
    return error_of([&] { Safetensors file(path); });
  };
  EXPECT_NE(raw("").find("0 bytes"), std::string::npos);
  EXPECT_NE(raw("1234").find("4 bytes"), std::string::npos);
  EXPECT_NE(raw(std::string(8, '\0')).find("'{'"), std::string::npos);
  EXPECT_NE(raw(std::string(100, '\xff')).find("100 MB"), std::string::npos);
  EXPECT_NE(raw("version https://git-lfs.example/spec/v1\noid sha256:00\nsize 9\n").find("pointer"), std::string::npos);
  EXPECT_NE(raw(std::string("\x00\x10\x00\x00\x00\x00\x00\x00{}", 10)).find("cut short"), std::string::npos);
  EXPECT_NE(error_of([&] { Safetensors file(folder / "absent"); }).find("no such file"), std::string::npos);
}

TEST_F(SafetensorsFile, WriterRefusesBadNames) {
  float x = 1;
  for (const std::vector<std::string>& names : {std::vector<std::string>{""}, {"\xff"}, {"a", "a"}, {"__metadata__"}}) {
    std::vector<SafetensorsItem> items;
    for (const std::string& name : names) items.push_back(f32_item(name, {1}, &x));
    EXPECT_NE(error_of([&] { write_safetensors(folder / "y", items); }).find("tensor name"), std::string::npos);
  }
  EXPECT_FALSE(fs::exists(folder / "y"));
}

}  // namespace
}  // namespace fettle
