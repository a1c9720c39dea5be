// The registry's promises: what is added is whole, whatever process was killed when; names cannot leave the folder; numbers are not
// reused; reading writes nothing. What doctor finds and mends is doctor_test's.
#include <signal.h>
#include <sys/wait.h>

#include <set>

#include "../../tests/tiny_folder.h"
#include "pipeline/names.h"
#include "pipeline/pipeline.h"
#include "pipeline/sql.h"
#include "pipeline/test_home.h"

namespace fettle {
namespace {

using RegistryTest = TestHome;

TEST_F(RegistryTest, AddsFindsAndRemoves) {
  const fs::path gguf = file("a.gguf", "first"), second = file("b.gguf", "second!");
  Registry registry;
  const ModelRecord one = registry.add("tickets", gguf, "ready", {{"why", "test"}});
  EXPECT_EQ(one.label(), "tickets:1");
  EXPECT_EQ(read_text(one.path), "first");
  EXPECT_EQ(one.digest, sha256_hex(std::string_view("first")));
  EXPECT_TRUE(fs::exists(gguf)) << "a user's file is copied, not taken";
  const ModelRecord two = registry.add("tickets", second, "failed-gate", {});
  EXPECT_EQ(two.version, 2);
  EXPECT_EQ(registry.find("tickets")->version, 1) << "a model that failed its gate is not what the bare name means";
  EXPECT_EQ(registry.find("tickets:2")->state, "failed-gate");
  EXPECT_EQ(registry.find("tickets:1")->recipe["why"], "test");
  EXPECT_FALSE(registry.find("tickets:3") || registry.find("tickets:01") || registry.find("other") || registry.find(""));
  EXPECT_THROW(registry.remove("tickets"), Error) << "two versions: which?";
  registry.remove("tickets:2");
  EXPECT_FALSE(fs::exists(two.path));
  EXPECT_EQ(registry.add("tickets", second, "ready", {}).version, 3) << "a version number never means two files";
  EXPECT_EQ(registry.list().size(), 2u);
  EXPECT_TRUE(check_home(false, true).clean());
}

TEST_F(RegistryTest, KeepsFoldersAsFolders) {
  TinyModel().write(folder / "tiny.gguf");
  const Gguf gguf(folder / "tiny.gguf");
  TinyFolder(gguf).write(folder / "Tiny");
  write_text(folder / "Tiny" / "README.md", "not a part of the model");
  const ModelRecord record = pull((folder / "Tiny").string(), true);
  EXPECT_EQ(record.label(), "tiny:1");
  EXPECT_TRUE(fs::is_directory(record.path));
  EXPECT_FALSE(fs::exists(record.path / "README.md"));
  EXPECT_EQ(record.digest, model_digest(folder / "Tiny"));
  EXPECT_EQ(record.bytes, model_bytes(folder / "Tiny"));
  EXPECT_EQ(resolve_model("tiny", true), record.path);
  EXPECT_EQ(resolve_model((folder / "Tiny/").string(), true), folder / "Tiny");
  EXPECT_TRUE(Model::open(record.path)->tokenizer);
  EXPECT_TRUE(check_home(false, true).clean());
  write_text(record.path / "config.json", "{}");
  EXPECT_FALSE(check_home(false, false).clean());
  EXPECT_TRUE(check_home(true, true).left.size() == 1);
  EXPECT_EQ(Registry().list()[0].state, "damaged");
  Registry().remove("tiny:1");
  EXPECT_FALSE(fs::exists(record.path));
}

TEST_F(RegistryTest, TagsFollowAndGo) {
  Registry registry;
  registry.add("tickets", file("a.gguf", "one"), "ready", {});
  registry.add("tickets", file("b.gguf", "two"), "ready", {});
  registry.tag("tickets:1", "support:live");
  EXPECT_EQ(registry.find("support:live")->label(), "tickets:1");
  registry.tag("tickets:2", "support:live");
  EXPECT_EQ(registry.find("support:live")->label(), "tickets:2");
  ASSERT_EQ(registry.tags().size(), 1u);
  EXPECT_EQ(registry.tags()[0].name + " " + registry.tags()[0].label, "support:live tickets:2");
  EXPECT_THROW(registry.removable("tickets"), Error) << "two versions";
  EXPECT_THROW(registry.tag("tickets:1", "tickets"), Error);
  EXPECT_THROW(registry.tag("tickets:1", "tickets:9"), Error);
  EXPECT_THROW(registry.tag("nothing", "x"), Error);
  registry.remove("support:live");
  EXPECT_FALSE(registry.find("support:live"));
  EXPECT_EQ(registry.list().size(), 2u) << "a tag goes, its model stays";
  registry.tag("tickets:2", "gone");
  registry.remove("tickets:2");
  EXPECT_FALSE(registry.find("gone"));
}

TEST_F(RegistryTest, NamesStayInTheFolder) {
  Registry registry;
  const fs::path gguf = file("a.gguf", "x");
  for (const char* bad : {"", "..", ".", "../x", "a/b", "/etc", ".hidden", "Tickets", "a b", "a\\b", "a:1", "-rf", "a\n"})
    EXPECT_THROW(registry.add(bad, gguf, "ready", {}), Error) << bad;
  EXPECT_THROW(registry.add(std::string(65, 'a'), gguf, "ready", {}), Error);
  EXPECT_TRUE(registry.list().empty());
  EXPECT_EQ(name_from("Org/My Model (v2).GGUF"), "my-model-v2");
  EXPECT_EQ(name_from("../../.."), "model");
  for (const char* any : {"../../x", "A:B", "...", "Ünïcode", "hf/repo.gguf"}) EXPECT_TRUE(valid_model_name(name_from(any))) << any;
}

TEST_F(RegistryTest, AMissingFileLeavesNothing) {
  Registry registry;
  EXPECT_THROW(registry.add("tickets", folder / "absent.gguf", "ready", {}), Error);
  EXPECT_TRUE(registry.list().empty());
  for (const auto& entry : fs::directory_iterator(fettle_home() / "models")) ADD_FAILURE() << entry.path();
}

// Runs body in a child process and returns its id.
template <class F>
pid_t child(F&& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    try {
      body();
    } catch (const Error& error) {
      std::fprintf(stderr, "child: %s\n", error.text().c_str());
      ::_exit(9);
    }
    ::_exit(0);
  }
  return pid;
}

TEST_F(RegistryTest, TwoProcessesAddAtOnce) {
  const fs::path gguf = file("a.gguf", std::string(100000, 'x'));
  std::vector<pid_t> children;
  for (int c = 0; c < 2; c++)
    children.push_back(child([&] {
      Registry registry;  // both make the database
      for (int i = 0; i < 20; i++) registry.add("tickets", gguf, "ready", {});
    }));
  for (pid_t pid : children) {
    int status = 0;
    ASSERT_EQ(::waitpid(pid, &status, 0), pid);
    EXPECT_EQ(status, 0);
  }
  Registry registry;
  std::set<int> versions;
  for (const ModelRecord& r : registry.list()) versions.insert(r.version);
  EXPECT_EQ(versions.size(), 40u);
  EXPECT_EQ(*versions.rbegin(), 40);
  EXPECT_TRUE(check_home(false, true).clean());
}

// kill -9 at whatever moment: what has a row is whole, and after mending nothing is left over.
TEST_F(RegistryTest, KilledWhileAdding) {
  const fs::path gguf = file("a.gguf", std::string(1 << 20, 'y'));
  Random random(7);
  for (int round = 0; round < 12; round++) {
    const pid_t pid = child([&] {
      Registry registry;
      for (;;) {
        const ModelRecord r = registry.add("tickets", gguf, "ready", {});
        if (r.version % 3 == 0) registry.remove(r.label());
      }
    });
    while (!fs::exists(fettle_home() / "models" / "tickets")) ::usleep(1000);
    ::usleep(5000 + random.below(60000));
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    Registry registry;
    for (const ModelRecord& r : registry.list()) EXPECT_TRUE(!fs::exists(r.path) || sha256_file(r.path) == r.digest);
    EXPECT_TRUE(check_home(true, true).clean());
    for (const ModelRecord& r : registry.list()) EXPECT_EQ(sha256_file(r.path), r.digest);
    EXPECT_TRUE(check_home(false, true).clean());
  }
  Registry registry;
  EXPECT_FALSE(registry.list().empty());
  EXPECT_GT(registry.add("tickets", gguf, "ready", {}).version, 1);
}

TEST_F(RegistryTest, ReadingMakesNothing) {
  EXPECT_TRUE(Registry().list().empty());
  EXPECT_FALSE(Registry().find("tickets"));
  EXPECT_TRUE(Registry().tags().empty());
  EXPECT_TRUE(check_home(false, true).clean());
  EXPECT_FALSE(fs::exists(fettle_home()));
}

// A file runs, whatever became of the registry.
TEST_F(RegistryTest, AFileNeedsNoRegistry) {
  fs::create_directories(fettle_home());
  write_text(fettle_home() / "fettle.db", std::string(8192, 'z'));
  const fs::path gguf = file("a.gguf", "x");
  EXPECT_EQ(resolve_model(gguf.string(), true), gguf);
  EXPECT_THROW(resolve_model("tickets", true), Error);
}

// The row cannot be written, so there is no folder either: a second try is version 1 too.
TEST_F(RegistryTest, ARefusedRowLeavesNoFolder) {
  const fs::path gguf = file("a.gguf", "x");
  Registry registry;
  registry.add("other", gguf, "ready", {});
  Sql(fettle_home() / "fettle.db").run("CREATE TRIGGER no BEFORE INSERT ON versions BEGIN SELECT RAISE(ABORT, 'no'); END");
  EXPECT_THROW(registry.add("tickets", gguf, "ready", {}), Error);
  Sql(fettle_home() / "fettle.db").run("DROP TRIGGER no");
  EXPECT_TRUE(check_home(false, true).clean());
  EXPECT_EQ(registry.add("tickets", gguf, "ready", {}).version, 1);
}

std::string complaint(const std::string& model, bool offline) {
  try {
    resolve_model(model, offline);
  } catch (const Error& error) {
    return error.text() + " | " + error.hint;
  }
  return "";
}

TEST_F(RegistryTest, ResolvesNamesFilesAndSlips) {
  const fs::path gguf = folder / "tiny.gguf";
  TinyModel().write(gguf);
  Registry registry;
  const ModelRecord r = registry.add("tickets", gguf, "ready", {});
  registry.add("drafts", gguf, "failed-gate", {});
  EXPECT_EQ(resolve_model("tickets", true), r.path);
  EXPECT_EQ(resolve_model("tickets:1", true), r.path);
  fs::rename(r.path, folder / "away");
  EXPECT_NE(complaint("tickets", true).find("is gone"), std::string::npos);
  fs::rename(folder / "away", r.path);
  EXPECT_EQ(resolve_model(gguf.string(), true), gguf);
  EXPECT_NE(complaint("tickts", true).find("did you mean tickets?"), std::string::npos);
  EXPECT_NE(complaint("smollm2-135m-instrct", true).find("did you mean smollm2-135m-instruct?"), std::string::npos);
  EXPECT_NE(complaint("smollm2-135m-instruct", true).find("--offline"), std::string::npos);
  EXPECT_NE(complaint("hf:org/repo:file.gguf", true).find("--offline"), std::string::npos);
  EXPECT_NE(complaint("drafts", true).find("drafts:1 (failed-gate)"), std::string::npos);
  EXPECT_NE(complaint(folder.string(), true).find("is a folder"), std::string::npos);
  EXPECT_NE(complaint((folder / "no.gguf").string(), true).find("no such file"), std::string::npos);
  EXPECT_EQ(pull(gguf.string(), true).label(), "tiny:1");
  EXPECT_THROW(pull(file("not.gguf", "GGU").string(), true), Error);
}

}  // namespace
}  // namespace fettle
