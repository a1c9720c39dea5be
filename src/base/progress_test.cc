// What a person, a pipe and a program see of the same stage; and what Ctrl-C does.
#include "base/progress.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>
#include <thread>

#include "base/error.h"
#include "base/units.h"

namespace fettle {
namespace {

// stderr of a piece of work under a manner of talking.
template <class F>
std::string said(Talk manner, F&& work) {
  Talk before = talk();
  talk() = manner;
  testing::internal::CaptureStderr();
  work();
  std::string text = testing::internal::GetCapturedStderr();
  talk() = before;
  return text;
}

void short_stage() {
  Progress progress("tune", 10, "steps");
  progress.value(2.5);
  progress.update(4);
  progress.update(10, "loss 2.5");
  progress.finish("saved");
}

TEST(Progress, PipeGetsStartAndEnd) {
  auto lines = split(said({}, short_stage), '\n');
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], "tune: 0 of 10 steps");
  EXPECT_EQ(lines[1].find("tune: done, 10 of 10 steps  "), 0u) << lines[1];
  EXPECT_NE(lines[1].find("  saved"), std::string::npos);
  EXPECT_EQ(lines[2], "");
}

TEST(Progress, WhatAnEarlierRunDidIsDoneAndNoSpeed) {
  const std::string text = said({.quiet = true, .progress_json = true}, [] {
    Progress progress("tune", 1000, "tokens", 600);
    std::this_thread::sleep_for(std::chrono::milliseconds(150));
    progress.update(601);
    progress.finish();
  });
  const auto lines = split(trim(text), '\n');
  EXPECT_EQ(nlohmann::json::parse(lines.front())["done"], 600);
  EXPECT_LT(nlohmann::json::parse(lines.back())["rate"].get<double>(), 20);  // 600 tokens in 150 ms would be 4000
}

TEST(Progress, QuietSaysNothing) { EXPECT_EQ(said({.quiet = true}, short_stage), ""); }

TEST(Progress, JsonLinesNeverGoBack) {
  std::string text = said({.quiet = true, .progress_json = true}, [] {
    Progress progress("pull \"x\"\xff", 1000, "B");
    for (int done : {100, 50, 400, 300, 1000}) {
      std::this_thread::sleep_for(std::chrono::milliseconds(110));
      progress.value(done == 400 ? 0.0 / 0.0 : 1.5);
      progress.update(done);
    }
    progress.finish();
  });
  int64_t last = 0;
  auto lines = split(trim(text), '\n');
  EXPECT_EQ(lines.size(), 7u);
  for (const std::string& line : lines) {
    auto row = nlohmann::json::parse(line);
    for (const char* key : {"stage", "done", "total", "rate", "value", "note", "seconds"}) EXPECT_TRUE(row.contains(key)) << key;
    EXPECT_EQ(row.size(), 7u);
    EXPECT_GE(row["done"].get<int64_t>(), last);
    last = row["done"];
    EXPECT_EQ(row["total"], 1000);
    EXPECT_GE(row["seconds"].get<double>(), 0);
  }
  EXPECT_EQ(last, 1000);
  double rate = nlohmann::json::parse(lines.back())["rate"];
  EXPECT_GT(rate, 500);  // 1000 in a bit more than half a second
  EXPECT_LT(rate, 2000);
}

TEST(Progress, LiveLineIsDrawnTenTimesASecondAtMost) {
  ::setenv("LC_ALL", "C.UTF-8", 1);
  std::string text = said({.live = true}, [] {
    Progress progress("eval", 3000, "tokens");
    double start = now_seconds();
    for (int i = 0; now_seconds() - start < 0.35; i++) progress.update(std::min(i, 3000));
    say("a word between");
    progress.update(3000);
    progress.finish("done");
  });
  ::unsetenv("LC_ALL");
  auto draws = split(text, '\r');
  EXPECT_GE(draws.size(), 4u);
  EXPECT_LE(draws.size(), 8u);
  EXPECT_NE(text.find("\r\033[Ka word between\n"), std::string::npos);
  EXPECT_NE(text.find("✓ eval  3000 of 3000 tokens"), std::string::npos);
  EXPECT_EQ(text.back(), '\n');
}

TEST(Progress, AnUnfinishedStageSaysSo) {
  std::string text = said({}, [] {
    Progress progress("tune", 10, "steps");
    progress.update(3);
  });
  EXPECT_NE(text.find("tune: stopped at 3 of 10 steps"), std::string::npos) << text;
}

TEST(Progress, ManyThreads) {
  std::string text = said({.progress_json = true}, [] {
    Progress progress("x", 0, "rows");
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; t++)
      threads.emplace_back([&] {
        for (int i = 0; i < 1000; i++) progress.update(i), progress.value(i);
      });
    for (auto& thread : threads) thread.join();
    progress.finish();
  });
  auto row = nlohmann::json::parse(split(trim(text), '\n').back());
  EXPECT_EQ(row["done"], 999);
  EXPECT_TRUE(row["total"].is_null());
}

TEST(Talking, WordsAndColours) {
  auto all = [] { say("a"), warn("b"), hint("c"); };
  EXPECT_EQ(said({}, all), "a\nwarning: b\nhint: c\n");
  EXPECT_EQ(said({.quiet = true}, all), "");
  EXPECT_EQ(said({.colour = true}, all), "a\n\033[33mwarning:\033[0m b\n\033[36mhint:\033[0m c\n");
  EXPECT_EQ(said({.progress_json = true}, all), "{\"say\":\"a\"}\n{\"warning\":\"b\"}\n{\"hint\":\"c\"}\n");
}

TEST(Talking, TextOfOthersIsHarmless) {
  EXPECT_EQ(harmless("plain, wide \u4f60 and\ttabs\n"), "plain, wide \u4f60 and\ttabs\n");
  EXPECT_EQ(harmless("\x1b[31m\x07\x7f"), "\\x1b[31m\\x07\\x7f");
  EXPECT_EQ(harmless("\xc2\x9b"
                     "31m"),
            "\\xc2\\x9b"
            "31m")
      << "a control character of two bytes";
  EXPECT_EQ(harmless("\xff\xe4\xbd"), "\\xff\\xe4\\xbd") << "cut UTF-8";
  EXPECT_EQ(harmless("\xc0\xaf \xed\xa0\x80 \xf4\x90\x80\x80"), "\\xc0\\xaf \\xed\\xa0\\x80 \\xf4\\x90\\x80\\x80")
      << "overlong, surrogate, too large";
  EXPECT_EQ(harmless("a\u202e\u2067b"), "a\\xe2\\x80\\xae\\xe2\\x81\\xa7b") << "marks that turn the direction of text";
  EXPECT_EQ(harmless(std::string(10, 'x'), 4), "xxxx ... (10 bytes)");
  EXPECT_EQ(said({}, [] { warn("\x1b]0;title\x07"); }), "warning: \\x1b]0;title\\x07\n");
}

TEST(Sparkline, LevelsAndOddValues) {
  EXPECT_EQ(sparkline({}), "");
  EXPECT_EQ(sparkline({1, 2, 3, 4, 5, 6, 7, 8}), "▁▂▃▄▅▆▇█");
  EXPECT_EQ(sparkline({9, 9, 1, 2}, 2), "▁█");
  EXPECT_EQ(sparkline({5, 5}), "▄▄");
  EXPECT_EQ(sparkline({1, 0.0 / 0.0, 2}), "▁ █");
  EXPECT_EQ(sparkline({1}, 0), "");
}

TEST(InterruptDeathTest, FirstAsksSecondEnds) {
  EXPECT_FALSE(interrupted());
  EXPECT_NO_THROW(stop_if_interrupted());
  EXPECT_EXIT(
      {
        install_interrupt_handler();
        ::raise(SIGTERM);
        if (!interrupted()) ::_exit(1);
        try {
          stop_if_interrupted();
          ::_exit(2);
        } catch (const Error& e) {
          if (e.code != Exit::interrupted) ::_exit(3);
        }
        ::raise(SIGINT);
        ::_exit(4);
      },
      testing::ExitedWithCode(130), "");
}

}  // namespace
}  // namespace fettle
