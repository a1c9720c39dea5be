// What the tests of this room share: a folder that goes away, and the text of an error. For tests only.
#pragma once
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/base.h"

namespace fettle {

class TestFolder {
 public:
  TestFolder() {
    static int serial = 0;
    path_ = fs::temp_directory_path() / ("fettle-store-" + std::to_string(::getpid()) + "-" + std::to_string(serial++));
    fs::create_directories(path_);
  }
  ~TestFolder() { fs::remove_all(path_); }
  TestFolder(const TestFolder&) = delete;
  TestFolder& operator=(const TestFolder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// The text and hint of the Error that `work` throws; "" when it throws none.
template <class Work>
std::string error_of(Work&& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.text() + (error.hint.empty() ? "" : " | " + error.hint);
  }
  return "";
}

}  // namespace fettle
