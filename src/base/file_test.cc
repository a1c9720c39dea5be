// Files: what is whole appears, what fails leaves the old file and no litter.
#include "base/file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <string>

#include "base/error.h"

namespace fettle {
namespace {

struct Folder : testing::Test {
  fs::path at;
  void SetUp() override {
    std::string name = testing::TempDir() + "fettle-file-XXXXXX";
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    at = name;
  }
  void TearDown() override { fs::remove_all(at); }
  size_t entries() const { return size_t(std::distance(fs::directory_iterator(at), {})); }
};

template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  ADD_FAILURE() << "no error";
  return usage("none");
}

struct Environment {
  const char* name;
  std::optional<std::string> before;
  Environment(const char* name, const char* value) : name(name) {
    if (const char* old = std::getenv(name)) before = old;
    value ? ::setenv(name, value, 1) : ::unsetenv(name);
  }
  ~Environment() { before ? ::setenv(name, before->c_str(), 1) : ::unsetenv(name); }
};

using MappedFileTest = Folder;
using AtomicFileTest = Folder;
using ReadTextTest = Folder;
using FileLockTest = Folder;

TEST_F(MappedFileTest, MapsMovesAndAllowsEmpty) {
  write_text(at / "a", "hello");
  write_text(at / "empty", "");
  MappedFile a(at / "a"), empty(at / "empty");
  EXPECT_EQ(a.text(), "hello");
  EXPECT_TRUE(empty.bytes().empty());
  MappedFile b = std::move(a);
  EXPECT_EQ(b.text(), "hello");
  EXPECT_TRUE(a.bytes().empty());  // NOLINT: that a moved-from file is empty is promised
  empty = std::move(b);
  EXPECT_EQ(empty.text(), "hello");
}

TEST_F(MappedFileTest, ReadsAgainWhatWasForgotten) {
  const std::string text = std::string(10000, 'a') + std::string(10000, 'b');
  write_text(at / "m", text);
  const MappedFile mapped(at / "m");
  EXPECT_EQ(mapped.text(), text);
  mapped.forget(mapped.bytes().subspan(5000, 9000));
  mapped.forget({});
  std::string elsewhere = text;  // memory that is not the file's stays as it is
  mapped.forget(std::as_bytes(std::span(elsewhere)));
  EXPECT_EQ(mapped.text(), text);
  EXPECT_EQ(elsewhere, text);
}

TEST_F(MappedFileTest, RefusesWhatIsNoFile) {
  Error missing = error_of([&] { MappedFile(at / "none"); });
  EXPECT_EQ(missing.code, Exit::refused);
  EXPECT_EQ(missing.text(), (at / "none").string() + ": no such file");
  EXPECT_STREQ(error_of([&] { MappedFile file(at); }).what(), "is a folder, not a file");
  ASSERT_EQ(::mkfifo((at / "pipe").c_str(), 0600), 0);
  EXPECT_STREQ(error_of([&] { MappedFile(at / "pipe"); }).what(), "is not a regular file");  // and does not hang
}

TEST_F(AtomicFileTest, AppearsOnlyWhenCommitted) {
  write_text(at / "a", "old");
  {
    AtomicFile file(at / "a");
    file.write("new");
    EXPECT_EQ(read_text(at / "a"), "old");
    EXPECT_EQ(entries(), 2u);
    EXPECT_EQ(file.size(), 3u);
  }
  EXPECT_EQ(read_text(at / "a"), "old");
  EXPECT_EQ(entries(), 1u);
  AtomicFile one(at / "a"), two(at / "a");  // their temporary files differ
  one.write("one");
  two.write("two");
  two.commit();
  EXPECT_EQ(read_text(at / "a"), "two");
  one.commit();
  EXPECT_EQ(read_text(at / "a"), "one");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(AtomicFileTest, WhatAKilledProcessLeftOfTheSameFileGoes) {
  const pid_t dead = fork();
  if (dead == 0) _exit(0);
  waitpid(dead, nullptr, 0);
  const fs::path gone = at / ("f.tmp-" + std::to_string(dead) + "-0"), other = at / ("g.tmp-" + std::to_string(dead) + "-0"),
                 mine = at / ("f.tmp-" + std::to_string(getpid()) + "-77"), named = at / "f.tmp-12-months";
  for (const fs::path& path : {gone, other, mine, named}) write_text(path, "x");
  write_text(at / "f", "whole");
  EXPECT_FALSE(fs::exists(gone));
  for (const fs::path& path : {other, mine, named}) EXPECT_TRUE(fs::exists(path)) << path;
}

TEST_F(AtomicFileTest, WritesPastItsBuffer) {
  std::string text;
  AtomicFile file(at / "big");
  for (int i = 0; text.size() < (3u << 20); i++) {
    std::string piece(size_t(i % 7919) * 13, char('a' + i % 26));
    file.write(piece);
    text += piece;
  }
  file.write(text);
  EXPECT_EQ(file.size(), 2 * text.size());
  file.commit();
  EXPECT_TRUE(read_text(at / "big") == text + text);
}

TEST_F(AtomicFileTest, SaysWhereItCannotWrite) {
  Error no_folder = error_of([&] { AtomicFile(at / "x" / "y"); });
  EXPECT_EQ(no_folder.code, Exit::failed);
  EXPECT_NE(no_folder.text().find("there is no folder"), std::string::npos);
  EXPECT_NE(error_of([&] { AtomicFile file(at); }).text().find("is a folder"), std::string::npos);
  // renaming over a device would be a disaster for root
  EXPECT_NE(error_of([&] { AtomicFile file("/dev/null"); }).text().find("not a regular file"), std::string::npos);
}

TEST_F(AtomicFileTest, FullDiskIsAnErrorWithPathAndBytes) {
  write_text(at / "a", "old");
  // a limit on the file size stands in for a full disk; in a child, so that nothing else meets it
  pid_t child = ::fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    ::signal(SIGXFSZ, SIG_IGN);
    rlimit limit{(1u << 20) + 100, (1u << 20) + 100};
    ::setrlimit(RLIMIT_FSIZE, &limit);
    int verdict = 1;
    try {
      AtomicFile file(at / "a");
      for (int i = 0; i < 5; i++) file.write(std::string(1u << 20, 'x'));
      file.commit();
    } catch (const Error& e) {
      std::string text = e.text();
      bool named = text.find((at / "a").string()) == 0 && text.find("after 1048676 bytes") != std::string::npos;
      verdict = e.code == Exit::failed && named ? 0 : 2;
    }
    ::_exit(verdict);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
  EXPECT_EQ(read_text(at / "a"), "old");
  EXPECT_EQ(entries(), 1u);
}

TEST_F(ReadTextTest, LimitsAndOddFiles) {
  write_text(at / "a", "12345");
  EXPECT_EQ(read_text(at / "a", 5), "12345");
  EXPECT_EQ(error_of([&] { read_text(at / "a", 4); }).code, Exit::refused);
  EXPECT_STREQ(error_of([&] { read_text(at); }).what(), "is a folder, not a file");
  EXPECT_NE(read_text("/proc/self/status").find("VmRSS"), std::string::npos);
}

TEST_F(FileLockTest, NamesTheHolder) {
  fs::path path = at / "lock";
  {
    FileLock lock(path);
    Error error = error_of([&] { FileLock(fs::path(path)); });
    EXPECT_EQ(error.code, Exit::failed);
    EXPECT_NE(error.text().find("process " + std::to_string(::getpid()) + ")"), std::string::npos) << error.text();
  }
  FileLock again(path);
}

TEST(FettleHome, FollowsTheEnvironment) {
  Environment home("HOME", "/home/someone");
  {
    Environment own("FETTLE_HOME", "/data/f"), xdg("XDG_DATA_HOME", "/xdg");
    EXPECT_EQ(fettle_home(), "/data/f");
  }
  Environment own("FETTLE_HOME", "");
  {
    Environment xdg("XDG_DATA_HOME", "/xdg");
    EXPECT_EQ(fettle_home(), "/xdg/fettle");
  }
  Environment xdg("XDG_DATA_HOME", "relative");  // the specification says to ignore it
  EXPECT_EQ(fettle_home(), "/home/someone/.local/share/fettle");
}

}  // namespace
}  // namespace fettle
