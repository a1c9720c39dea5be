// For tests of pipeline: a $FETTLE_HOME of its own that goes away, and a small data set.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <string>

#include "base/base.h"

namespace fettle {

class TestHome : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (fs::temp_directory_path() / "fettle-home-XXXXXX").string();
    ASSERT_NE(::mkdtemp(name.data()), nullptr);
    folder = name;
    const char* before = std::getenv("FETTLE_HOME");
    before_ = before ? before : "";
    ::setenv("FETTLE_HOME", (folder / "home").c_str(), 1);
    quiet_ = talk().quiet;
    talk().quiet = true;
  }
  void TearDown() override {
    if (before_.empty())
      ::unsetenv("FETTLE_HOME");
    else
      ::setenv("FETTLE_HOME", before_.c_str(), 1);
    talk().quiet = quiet_;
    std::error_code error;
    fs::remove_all(folder, error);
  }
  fs::path file(const std::string& name, const std::string& text) const {
    write_text(folder / name, text);
    return folder / name;
  }
  // `rows` short questions with two labels; the label can be read off the question.
  fs::path tickets(const std::string& name, int rows, int from = 0) const {
    static const char* kThings[] = {"lamp", "desk", "router", "phone", "chair", "cable", "mouse", "screen"};
    std::string text;
    for (int i = from; i < from + rows; i++) {
      const std::string thing = kThings[i / 2 % 8], number = std::to_string(i);
      text += i % 2 ? "{\"messages\": [{\"role\": \"user\", \"content\": \"money back for " + thing + " " + number +
                          "\"}, {\"role\": \"assistant\", \"content\": \"refund\"}]}\n"
                    : "{\"messages\": [{\"role\": \"user\", \"content\": \"where did my " + thing + " " + number +
                          " go\"}, {\"role\": \"assistant\", \"content\": \"order\"}]}\n";
    }
    return file(name, text);
  }
  fs::path folder;

 private:
  std::string before_;
  bool quiet_ = false;
};

}  // namespace fettle
