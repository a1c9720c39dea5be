// For tests only: the program itself, when it has been built beside the test, in a folder and a home of its own.
#pragma once
#include <gtest/gtest.h>
#include <sys/wait.h>

#include <cstdlib>

#include "../../tests/tiny_model.h"
#include "cli/bench_shape.h"

namespace fettle {

struct Outcome {
  int code = 0;
  std::string out, err;
  Json json() const { return Json::parse(out, nullptr, false); }
};

class Program : public ::testing::Test {
 protected:
  void SetUp() override {
    program_ = fs::read_symlink("/proc/self/exe").parent_path() / "fettle";
    if (!fs::exists(program_)) GTEST_SKIP() << "no fettle beside this test: build it to try the program itself";
  }
  fs::path at(const std::string& name) const { return scratch_.path() / name; }
  fs::path file(const std::string& name, const std::string& text) const {
    write_text(at(name), text);
    return at(name);
  }
  // A shell's line in the folder; $FETTLE is the program.
  Outcome shell(const std::string& line) const {
    const std::string whole = "cd " + at("").string() + " && FETTLE_HOME=" + at("home").string() +
                              " NO_COLOR=1 FETTLE=" + program_.string() + " && export FETTLE FETTLE_HOME NO_COLOR && { " + line +
                              "\n} > .out 2> .err";
    const int status = std::system(whole.c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, read_text(at(".out")), read_text(at(".err"))};
  }
  Outcome run(const std::string& arguments, const std::string& input = "") const {
    file(".in", input);
    return shell("$FETTLE " + arguments + " < .in");
  }
  fs::path tiny(const std::string& name = "tiny.gguf") const {
    if (!fs::exists(at(name))) TinyModel{}.write(at(name));
    return at(name);
  }
  // One row: a question and its answer.
  static std::string row(const std::string& question, const std::string& answer) {
    return Json{{"prompt", question}, {"completion", answer}}.dump() + "\n";
  }

  fs::path program_;
  ScratchFolder scratch_;
};

}  // namespace fettle
