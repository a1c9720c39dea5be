// Doctor: what is noticed, what is mended, what is left for a person; nothing is lost with the database, and looking changes nothing.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>

#include "pipeline/pipeline.h"
#include "pipeline/sql.h"
#include "pipeline/test_home.h"

namespace fettle {
namespace {

class DoctorTest : public TestHome {
 protected:
  // tickets:1 and tickets:2, the second called support:live.
  void two_models() {
    Registry registry;
    registry.add("tickets", file("a.gguf", "one"), "ready", {{"kept", 1}});
    registry.add("tickets", file("b.gguf", "two"), "failed-gate", {});
    registry.tag("tickets:1", "live");
    registry.tag("tickets:2", "live");
    registry.tag("tickets:2", "support:old");
    registry.tag("tickets:1", "support:old");
  }
  void expect_two_models() const {
    Registry registry;
    ASSERT_EQ(registry.list().size(), 2u);
    EXPECT_EQ(registry.find("tickets")->recipe["kept"], 1);
    EXPECT_EQ(registry.find("tickets:2")->state, "failed-gate");
    ASSERT_TRUE(registry.find("live") && registry.find("support:old"));
    EXPECT_EQ(registry.find("live")->label(), "tickets:2");
    EXPECT_EQ(registry.find("support:old")->label(), "tickets:1");
    EXPECT_EQ(registry.tags().size(), 2u);
  }
  fs::path models() const { return fettle_home() / "models"; }
  fs::path database() const { return fettle_home() / "fettle.db"; }
};

bool mentions(const std::vector<std::string>& said, const std::string& word) {
  return std::any_of(said.begin(), said.end(), [&](const std::string& s) { return s.find(word) != std::string::npos; });
}

// Names and contents of everything below the home.
std::map<std::string, std::string> everything() {
  std::map<std::string, std::string> all;
  for (const auto& entry : fs::recursive_directory_iterator(fettle_home()))
    all[entry.path()] = entry.is_regular_file() ? read_text(entry.path()) : "";
  return all;
}

TEST_F(DoctorTest, RowsWithoutFilesAndFilesWithoutRows) {
  Registry registry;
  const ModelRecord lost_row = registry.add("a", file("a.gguf", "one"), "ready", {{"kept", 1}});
  const ModelRecord lost_file = registry.add("b", file("b.gguf", "two"), "ready", {});
  registry.tag("b", "gone");
  Sql(database()).run("DELETE FROM models WHERE name = 'a'");  // as if killed between file and row
  fs::remove(lost_file.path);
  fs::create_directories(models() / "c" / "4");
  const auto before = everything();
  const Checkup looked = check_home(false, true);
  EXPECT_TRUE(mentions(looked.mendable, "a:1 has a file but no row") && mentions(looked.mendable, "b:1 has a row but no file"));
  EXPECT_EQ(looked.mendable.size(), 2u);
  EXPECT_TRUE(mentions(looked.left, "models/c/4 has no row and holds no model: delete the folder"));
  EXPECT_TRUE(looked.mended.empty());
  EXPECT_EQ(everything(), before) << "looking mends nothing";
  const Checkup mended = check_home(true, true);
  EXPECT_EQ(mended.mended.size(), 2u);
  EXPECT_TRUE(mended.mendable.empty());
  EXPECT_FALSE(mended.clean()) << "the folder is left for a person";
  EXPECT_EQ(registry.find("a")->recipe["kept"], 1);
  EXPECT_EQ(registry.find("a")->digest, lost_row.digest);
  EXPECT_FALSE(registry.find("b") || registry.find("gone"));
  fs::remove(models() / "c" / "4");
  EXPECT_TRUE(check_home(false, true).clean());
}

TEST_F(DoctorTest, DamageIsMarkedAndLeftToAPerson) {
  Registry registry;
  const ModelRecord rotten = registry.add("c", file("c.gguf", "three"), "ready", {});
  write_text(rotten.path, "thrEe");
  EXPECT_TRUE(check_home(false, false).clean()) << "the size is right";
  EXPECT_TRUE(mentions(check_home(false, true).mendable, "c:1 is not what was stored"));
  const Checkup mended = check_home(true, true);
  EXPECT_TRUE(mended.mended.empty() && mentions(mended.left, "fettle rm c:1"));
  EXPECT_FALSE(registry.find("c")) << "a damaged file is not what the name means any more";
  EXPECT_EQ(registry.find("c:1")->state, "damaged");
  EXPECT_TRUE(mentions(check_home(true, false).left, "fettle rm c:1")) << "as long as it is there";
  write_text(rotten.path, "three");  // from a backup
  EXPECT_TRUE(mentions(check_home(true, false).mended, "c:1"));
  EXPECT_EQ(registry.find("c")->state, "ready");
  EXPECT_TRUE(check_home(false, true).clean());
}

TEST_F(DoctorTest, CardsAndTagsAreWrittenAgain) {
  two_models();
  fs::remove(models() / "tickets" / "1" / "card.json");
  write_text(models() / "tickets" / "2" / "card.json", "{\"name\": \"tick");
  write_text(models() / "tags.json", "{\"live\": \"tickets:1\"}");
  const Checkup looked = check_home(false, false);
  EXPECT_TRUE(mentions(looked.mendable, "tickets/1/card.json") && mentions(looked.mendable, "tickets/2/card.json") &&
              mentions(looked.mendable, "tags.json"));
  EXPECT_EQ(check_home(true, false).mended.size(), 3u);
  EXPECT_TRUE(check_home(false, true).clean());
  fs::remove(database());
  EXPECT_TRUE(check_home(true, true).clean());
  expect_two_models();
}

TEST_F(DoctorTest, ALostDatabaseIsRebuilt) {
  two_models();
  const std::string whole = read_text(database());
  for (const std::string& content : {std::string(), std::string(8192, 'z'), whole.substr(0, 50), whole.substr(0, 4096),
                                     whole.substr(0, whole.size() / 2), whole.substr(0, 4096) + std::string(whole.size() - 4096, 'z')}) {
    write_text(database(), content);
    try {
      Registry().list();
      ADD_FAILURE() << content.size();
    } catch (const Error& error) {
      EXPECT_EQ(error.code, Exit::refused);
      EXPECT_NE(error.place.find("fettle.db"), std::string::npos);
      EXPECT_NE(error.hint.find("fettle doctor --mend"), std::string::npos);
    }
    const Checkup looked = check_home(false, true);
    EXPECT_EQ(looked.mendable.size(), 1u);
    EXPECT_EQ(read_text(database()), content) << "looking changes nothing";
    const Checkup mended = check_home(true, true);
    EXPECT_TRUE(mended.clean() && mentions(mended.mended, "2 models and 2 tags"));
    expect_two_models();
    bool kept = false;
    for (const auto& entry : fs::directory_iterator(fettle_home()))
      kept |= entry.path().filename().string().starts_with("fettle.db.damaged-") && read_text(entry.path()) == content;
    EXPECT_TRUE(kept) << "the old one is kept";
  }
  fs::remove(database());
  EXPECT_THROW(Registry(), Error) << "no empty list where models are";
  EXPECT_TRUE(check_home(true, true).clean());
  expect_two_models();
  EXPECT_EQ(Registry().add("tickets", file("c.gguf", "three"), "ready", {}).version, 3);
}

// Amid rebuilding the process is killed: the next doctor does it all.
TEST_F(DoctorTest, KilledWhileRebuilding) {
  two_models();
  for (int delay = 0; delay < 8000; delay += 500) {
    fs::remove(database());
    const pid_t pid = ::fork();
    if (pid == 0) {
      check_home(true, true);
      ::_exit(0);
    }
    ::usleep(useconds_t(delay));
    ::kill(pid, SIGKILL);
    ::waitpid(pid, nullptr, 0);
    EXPECT_TRUE(check_home(true, true).clean());
    expect_two_models();
  }
}

TEST_F(DoctorTest, WhatTagsStoodForIsKeptWhereItIsGone) {
  two_models();
  fs::remove(database());
  fs::remove(models() / "tickets" / "2" / "card.json");
  const Checkup mended = check_home(true, true);
  EXPECT_TRUE(mentions(mended.left, "tags.json") && mentions(mended.left, "fettle pull"));
  EXPECT_FALSE(Registry().find("live"));
  EXPECT_EQ(Registry().find("support:old")->label(), "tickets:1");
  bool kept = false;
  for (const auto& entry : fs::directory_iterator(fettle_home()))
    kept |= entry.path().filename().string().ends_with("-tags.json") && read_text(entry.path()).find("tickets:2") != std::string::npos;
  EXPECT_TRUE(kept);
}

TEST_F(DoctorTest, LeftoversOfProcessesThatAreGone) {
  const pid_t gone = ::fork();
  if (gone == 0) ::_exit(0);
  ::waitpid(gone, nullptr, 0);
  const std::string dead = std::to_string(gone), own = std::to_string(::getpid());
  const fs::path pull = fettle_home() / "cache" / "pull";
  std::vector<fs::path> left, kept;
  for (const std::string& pid : {dead, own})
    for (const fs::path& path :
         {models() / (".incoming-" + pid + "-0") / "model.gguf", models() / (".removed-" + pid + "-1") / "model.gguf",
          fettle_home() / "runs" / "t" / ("adapter.gguf.tmp-" + pid + "-3"),
          fettle_home() / "runs" / "t" / ("checkpoint.tmp-" + pid) / "values.f32", pull / ("a.gguf.pip-" + pid) / "a.whl"})
      (pid == dead ? left : kept).push_back(path);
  kept.push_back(fettle_home() / "runs" / "my.tmp-12-months" / "run.json");
  kept.push_back(pull / "whole.gguf.part");
  kept.push_back(pull / "whole.gguf.part.json");
  kept.push_back(pull / "busy.gguf.part");
  left.push_back(pull / "nothing-known.gguf.part");
  left.push_back(pull / "alone.gguf.part.json");
  left.push_back(pull / "fetched.gguf");
  for (const auto& paths : {left, kept})
    for (const fs::path& path : paths) {
      fs::create_directories(path.parent_path());
      write_text(path, "x");
    }
  const FileLock busy(pull / "busy.lock");
  const auto before = everything();
  EXPECT_EQ(check_home(false, false).mendable.size(), left.size());
  EXPECT_EQ(everything(), before);
  const Checkup mended = check_home(true, false);
  EXPECT_EQ(mended.mended.size(), left.size());
  EXPECT_TRUE(mended.clean());
  EXPECT_TRUE(mentions(mended.notes, "whole.gguf.part (1 B) is the first part of a download"));
  EXPECT_EQ(mended.notes.size(), 1u);
  for (const fs::path& path : left) EXPECT_FALSE(fs::exists(path)) << path;
  for (const fs::path& path : kept) EXPECT_TRUE(fs::exists(path)) << path;
  EXPECT_TRUE(check_home(false, false).clean());
}

// Nobody may write, so nothing is mended, and doctor says so.
TEST_F(DoctorTest, WhatCannotBeMendedIsSaid) {
  two_models();
  fs::remove(models() / "tickets" / "1" / "card.json");
  fs::create_directories(models() / "tickets" / "1" / "card.json" / "in the way");
  const Checkup mended = check_home(true, false);
  EXPECT_TRUE(mended.mended.empty());
  EXPECT_FALSE(mended.clean());
  EXPECT_TRUE(mentions(mended.left, "could not be mended"));
}

}  // namespace
}  // namespace fettle
