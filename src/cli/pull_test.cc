// Folders on a hub, pulled, run and resumed by the program itself.
#include "../../tests/tiny_folder.h"
#include "cli/test_program.h"
#include "store/test_server.h"

namespace fettle {
namespace {

using Answer = TestServer::Answer;
using Request = TestServer::Request;

// A hub with the tiny model as a folder.
struct PulledFolder : Program {
  void SetUp() override {
    Program::SetUp();
    if (IsSkipped()) return;
    const Gguf whole(tiny());
    TinyFolder(whole).write(at("hf"));
    ::setenv("no_proxy", "127.0.0.1", 1);
    ::setenv("HF_ENDPOINT", server.url().c_str(), 1);
  }
  void TearDown() override { ::unsetenv("HF_ENDPOINT"); }

  Answer answer(const Request& r) const {
    if (r.target.starts_with("/api/models/org/Tiny/revision/")) {
      Json siblings = Json::array();
      for (const auto& e : fs::directory_iterator(at("hf"))) {
        siblings.push_back({{"rfilename", e.path().filename()}, {"size", e.file_size()}});
        if (e.path().extension() == ".safetensors") siblings.back()["lfs"] = {{"sha256", sha256_file(e.path())}};
      }
      return {.body = Json({{"sha", "abc123"}, {"siblings", siblings}}).dump()};
    }
    const std::string front = "/org/Tiny/resolve/abc123/";
    if (!r.target.starts_with(front) || !fs::exists(at("hf") / r.target.substr(front.size()))) return {.status = 404};
    return {.body = read_text(at("hf") / r.target.substr(front.size())), .headers = {"ETag: \"x\""}};
  }
  bool weights_were_asked() {
    const auto all = server.requests();
    return std::any_of(all.begin(), all.end(), [](const Request& r) { return r.target.ends_with("model.safetensors"); });
  }

  TestServer server{[this](const Request& r) { return answer(r); }};
};

TEST_F(PulledFolder, IsAModelOfTheRegistry) {
  const Json plan = run("pull hf:org/Tiny --dry-run --json").json();
  EXPECT_GT(plan["bytes"], 1000);
  EXPECT_FALSE(weights_were_asked());
  const Outcome pulled = run("pull hf:org/Tiny --json");
  ASSERT_EQ(pulled.code, 0) << pulled.err;
  const std::string name = pulled.json()["name"];
  const std::string line = " --raw --temperature 0 --max-tokens 8 abc";
  EXPECT_EQ(run("run " + name + line).out, run("run tiny.gguf" + line).out);
  const size_t asked = server.requests().size();
  EXPECT_EQ(run("run hf:org/Tiny" + line).out, run("run tiny.gguf" + line).out);
  EXPECT_EQ(server.requests().size(), asked) << "it is here already";
  EXPECT_EQ(run("inspect " + name + " --json").json()["runs"], true);
  EXPECT_FALSE(fs::exists(at("home/cache/pull") / name)) << "what was fetched is in the registry alone";
  EXPECT_EQ(run("doctor --digests --json").json()["ok"], true);
}

TEST_F(PulledFolder, OfAnUnknownFamilyIsRefusedBeforeItsWeightsCome) {
  Json config = Json::parse(read_text(at("hf/config.json")));
  config["model_type"] = "zebra";
  file("hf/config.json", config.dump());
  const Outcome end = run("pull hf:org/Tiny");
  EXPECT_EQ(end.code, 3) << end.err;
  EXPECT_NE(end.err.find("model_type 'zebra' is not supported"), std::string::npos) << end.err;
  EXPECT_FALSE(weights_were_asked());
}

}  // namespace
}  // namespace fettle
