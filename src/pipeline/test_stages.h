// For tests of stages: a home with a tiny model in it, and what they are asked for.
#pragma once
#include <functional>

#include "../../tests/tiny_model.h"
#include "pipeline/pipeline.h"
#include "pipeline/stage.h"
#include "pipeline/test_home.h"

namespace fettle {

class StagesTest : public TestHome {
 protected:
  void SetUp() override {
    TestHome::SetUp();
    TinyModel().write(folder / "tiny.gguf");
    context.command = {"fit", "tickets.jsonl"};
    context.threads = 2;
  }
  TuneArguments tuning(const fs::path& out) const {
    TuneArguments a;
    a.model = (folder / "tiny.gguf").string();
    a.data = tickets("tickets.jsonl", 40).string();
    a.out = out;
    a.options.rank = 4;
    a.options.epochs = 2;
    a.options.lr = 1e-2;
    return a;
  }
  FitArguments fitting(const fs::path& out) const {
    FitArguments a;
    a.base = (folder / "tiny.gguf").string();
    a.data = tickets("tickets.jsonl", 40).string();
    a.held_out = tickets("held-out.jsonl", 24, 100).string();
    a.name = "tickets";
    a.target = "size<180kB,accuracy>=base_tuned-60pt";
    a.out = out;
    a.options.rank = 4;
    a.options.epochs = 6;
    a.options.lr = 1e-2;
    return a;
  }
  StageContext context;
};

inline std::string complaint(const std::function<void()>& body) {
  try {
    body();
  } catch (const Error& error) {
    return error.text() + " | " + error.hint;
  }
  return "";
}

inline bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace fettle
