// Folders of shards: what the index says is held against what the files hold.
#include <gtest/gtest.h>

#include "store/store.h"
#include "store/test_folder.h"

namespace fettle {
namespace {

struct ShardedFolder : testing::Test {
  TestFolder folder;
  const float value = 1;
  static constexpr const char* kA = "model-00001-of-00002.safetensors";
  static constexpr const char* kB = "model-00002-of-00002.safetensors";

  void shard(const std::string& name, const std::vector<std::string>& tensors) {
    std::vector<SafetensorsItem> items;
    for (const std::string& t : tensors) items.push_back(f32_item(t, {1}, &value));
    write_safetensors(folder / name, items);
  }
  void index(const std::string& map) { write_text(folder / "model.safetensors.index.json", R"({"weight_map":)" + map + "}"); }
  std::string refusal() {
    return error_of([&] { open_safetensors(folder.path()); });
  }
};

TEST_F(ShardedFolder, IsOneSet) {
  shard(kA, {"a", "b"});
  shard(kB, {"c"});
  index(std::string(R"({"c":")") + kB + R"(","a":")" + kA + R"(","b":")" + kA + "\"}");
  const std::vector<Safetensors> parts = open_safetensors(folder.path());
  ASSERT_EQ(parts.size(), 2u);
  EXPECT_TRUE(parts[0].find("b") && parts[1].find("c"));
  // the one file goes before an index, as it does in transformers
  shard("model.safetensors", {"d"});
  EXPECT_EQ(open_safetensors(folder.path()).size(), 1u);
}

TEST_F(ShardedFolder, RefusesAnIndexThatIsNotTrue) {
  const std::string a = std::string("\"") + kA + "\"", b = std::string("\"") + kB + "\"";
  shard(kA, {"a"});
  shard(kB, {"b"});
  index(R"({"a":)" + a + R"(,"b":)" + b + "}");
  EXPECT_EQ(refusal(), "");
  index(R"({"a":)" + a + R"(,"b":)" + a + "}");
  EXPECT_NE(refusal().find("lacks the tensor \"b\""), std::string::npos);
  index(R"({"a":)" + b + R"(,"b":)" + b + R"(,"x":)" + a + "}");
  EXPECT_NE(refusal().find("lies here, though the index places it in"), std::string::npos);
  index(R"({"a":)" + a + R"(,"b":"model-00003-of-00003.safetensors"})");
  EXPECT_NE(refusal().find("which is missing"), std::string::npos);
  for (const char* name : {"\"../x.safetensors\"", "\"/etc/x.safetensors\"", "\"sub/x.safetensors\"", "\"..\\\\x.safetensors\"",
                           "\"x.bin\"", "\"..\"", "\"\""}) {
    index(std::string(R"({"a":)") + name + "}");
    EXPECT_NE(refusal().find("names no file of this folder"), std::string::npos) << name;
  }
  index(R"({"a":7})");
  EXPECT_NE(refusal().find("no text"), std::string::npos);
  for (const char* map : {"[]", "3", "null"}) {
    index(map);
    EXPECT_NE(refusal().find("no weight_map"), std::string::npos);
  }
  index("{}");
  EXPECT_NE(refusal().find("names no tensors"), std::string::npos);
  index(std::string(100, '[') + std::string(100, ']'));
  EXPECT_NE(refusal().find("nested deeper"), std::string::npos);
  write_text(folder / "model.safetensors.index.json", "{\"weight_map\":");
  EXPECT_NE(refusal().find("not valid JSON"), std::string::npos);
}

TEST_F(ShardedFolder, RefusesTensorsInTwoFiles) {
  shard(kA, {"a", "extra"});
  shard(kB, {"b", "extra"});
  index(std::string(R"({"a":")") + kA + R"(","b":")" + kB + "\"}");
  EXPECT_NE(refusal().find("another file of the set"), std::string::npos);
}

TEST_F(ShardedFolder, NeedsWeightsThatCanBeReadSafely) {
  EXPECT_NE(refusal().find("holds no weights"), std::string::npos);
  write_text(folder / "pytorch_model.bin", "x");
  EXPECT_NE(refusal().find("pickle"), std::string::npos);
  EXPECT_NE(refusal().find("safe_serialization"), std::string::npos);
  shard("gptq_model-4bit.safetensors", {"a"});
  EXPECT_EQ(open_safetensors(folder.path()).size(), 1u);
  shard("other.safetensors", {"b"});
  EXPECT_NE(refusal().find("several safetensors files"), std::string::npos);
  EXPECT_NE(error_of([&] { open_safetensors(folder / "absent"); }).find("no such file"), std::string::npos);
}

}  // namespace
}  // namespace fettle
