// What tests of sources share: a small model's bytes, and a place where they should come.
#pragma once
#include <gtest/gtest.h>

#include <cstdlib>

#include "../tests/tiny_model.h"
#include "store/test_folder.h"

namespace fettle {

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

}  // namespace fettle
