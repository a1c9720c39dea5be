#include "base/utf8.h"

#include <gtest/gtest.h>

namespace fettle {
namespace {

TEST(Utf8, WhatIsValid) {
  for (const char* good : {"", "plain ascii, longer than eight", "é", "€", "𝄞", "日本語日本語", "\xF4\x8F\xBF\xBF", "\xED\x9F\xBF"})
    EXPECT_TRUE(valid_utf8(good)) << good;
  for (const char* bad : {"\x80", "\xC0\xAF", "\xC1\xBF", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF4\x90\x80\x80",
                          "\xF5\x80\x80\x80", "\xFF", "abcdefgh\xC3", "\xE2\x82", "\xE2\x28\xA1", "12345678\x80"})
    EXPECT_FALSE(valid_utf8(bad)) << testing::PrintToString(bad);
  EXPECT_TRUE(valid_utf8(std::string_view("\0", 1)));
}

}  // namespace
}  // namespace fettle
