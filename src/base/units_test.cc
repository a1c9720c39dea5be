#include "base/units.h"

#include <gtest/gtest.h>

namespace fettle {
namespace {

TEST(Units, ParsesSizes) {
  const std::pair<const char*, uint64_t> good[] = {{"90MB", 90'000'000},
                                                   {"90 MB", 90'000'000},
                                                   {"90MiB", 90u << 20},
                                                   {"1.5GB", 1'500'000'000},
                                                   {"1e6", 1'000'000},
                                                   {"4096", 4096},
                                                   {" 2k ", 2000},
                                                   {"2Ki", 2048},
                                                   {".5 GiB", 1u << 29},
                                                   {"7B", 7},
                                                   {"18446744073709551615", UINT64_MAX},
                                                   {"0", 0}};
  for (auto& [text, bytes] : good) EXPECT_EQ(parse_bytes(text), bytes) << text;
  for (const char* bad : {"", " ", "MB", "-1", "+1", "nan", "inf", "90XB", "90MBs", "9 0", "1e", "1e30", "18446744073709551616",
                          "20000000TB", "1e400", "1,5GB"})
    EXPECT_FALSE(parse_bytes(bad)) << bad;
}

TEST(Units, ParsesTimes) {
  const std::pair<const char*, double> good[] = {{"2h", 7200},      {"1h30m", 5400},   {"90s", 90},     {"5ms", 5e-3},
                                                 {"250us", 250e-6}, {"250µs", 250e-6}, {"1.5 h", 5400}, {"1 h 04 min", 3840},
                                                 {"90", 90},        {"1d 2h", 93600},  {"0s", 0}};
  for (auto& [text, seconds] : good) EXPECT_DOUBLE_EQ(parse_seconds(text).value_or(-1), seconds) << text;
  for (const char* bad : {"", "h", "-2h", "1h30", "30m1h", "1h1h", "5 parsecs", "nan", "1e400s", "2h,"})
    EXPECT_FALSE(parse_seconds(bad)) << bad;
}

TEST(Units, Formats) {
  EXPECT_EQ(format_bytes(98.4e6), "98.4 MB");
  EXPECT_EQ(format_bytes(512), "512 B");
  EXPECT_EQ(format_bytes(999.96e3), "1.0 MB");
  EXPECT_EQ(format_bytes(0), "0 B");
  EXPECT_EQ(format_count(12345), "12.3 k");
  EXPECT_EQ(format_count(512), "512");
  EXPECT_EQ(format_count(3.25), "3.2");
  EXPECT_EQ(format_seconds(3840), "1 h 04 min");
  EXPECT_EQ(format_seconds(12.34), "12.3 s");
  EXPECT_EQ(format_seconds(0.005), "5 ms");
  EXPECT_EQ(format_seconds(59.99), "1 min 00 s");
  EXPECT_EQ(format_seconds(3599.9), "1 h 00 min");
  EXPECT_EQ(format_seconds(26 * 3600), "1 d 02 h");
  EXPECT_EQ(format_seconds(250e-6), "250 us");
  EXPECT_EQ(format_seconds(-1), "-1.0 s");
  EXPECT_EQ(format_seconds(0.0 / 0.0), "?");
}

TEST(Units, WhatIsPrintedCanBeRead) {
  for (double s : {3e-6, 0.004, 0.2, 7.5, 61.0, 3700.0, 90000.0}) EXPECT_NEAR(parse_seconds(format_seconds(s)).value_or(-1), s, s * 0.05);
  for (double b : {3.0, 4500.0, 8.1e6, 2.5e9, 7e12}) EXPECT_NEAR(double(parse_bytes(format_bytes(b)).value_or(0)), b, b * 0.05);
}

TEST(Units, Text) {
  EXPECT_EQ(split("a,,b", ','), (std::vector<std::string>{"a", "", "b"}));
  EXPECT_EQ(split("", ','), std::vector<std::string>{""});
  EXPECT_EQ(trim(" \t a b\r\n"), "a b");
  EXPECT_EQ(trim("  "), "");
  EXPECT_EQ(lower("ÄbC"), "Äbc");
}

TEST(Units, DidYouMean) {
  std::vector<std::string> verbs{"fit", "tune", "quantize", "serve", "eval"};
  EXPECT_EQ(did_you_mean("quantise", verbs), "quantize");
  EXPECT_EQ(did_you_mean("tnue", verbs), "tune");  // a swap is one slip
  EXPECT_EQ(did_you_mean("SERVE", verbs), "serve");
  EXPECT_EQ(did_you_mean("fi", verbs), "fit");
  EXPECT_FALSE(did_you_mean("xyz", verbs));
  EXPECT_FALSE(did_you_mean("", {"long"}));
  EXPECT_FALSE(did_you_mean("tune", {}));
}

TEST(Units, Clocks) {
  double before = now_seconds();
  EXPECT_GE(now_seconds(), before);
  std::string stamp = utc_timestamp();
  ASSERT_EQ(stamp.size(), 20u);
  EXPECT_EQ(stamp[10], 'T');
  EXPECT_EQ(stamp[19], 'Z');
  EXPECT_EQ(http_date(784111777), "Sun, 06 Nov 1994 08:49:37 GMT");  // RFC 9110's own example
  EXPECT_EQ(http_date(951782400), "Tue, 29 Feb 2000 00:00:00 GMT");
  EXPECT_GT(peak_rss_bytes(), 1u << 20);
}

}  // namespace
}  // namespace fettle
