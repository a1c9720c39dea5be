// A tiny model and a folder for runs. For tests only.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include "train/toy.h"

namespace fettle {

class TrainTest : public testing::Test {
 protected:
  void SetUp() override {
    talk().quiet = true;
    const testing::TestInfo* info = testing::UnitTest::GetInstance()->current_test_info();
    root_ = fs::temp_directory_path() / ("fettle-train-" + std::to_string(::getpid()) + "-" + info->name());
    fs::create_directories(root_);
    TinyModel tiny;
    tiny.write(root_ / "tiny.gguf");
    model_ = Model::open(root_ / "tiny.gguf");
  }
  void TearDown() override {
    model_.reset();
    fs::remove_all(root_);
  }
  fs::path run(const std::string& name) const { return root_ / name; }
  std::shared_ptr<Model> fresh() const { return Model::open(root_ / "tiny.gguf"); }

  fs::path root_;
  std::shared_ptr<Model> model_;
};

inline std::vector<float> adapter_values(Model& model) {
  std::vector<float> all;
  for (Linear* l : model.linears())
    if (l->adapter) {
      all.insert(all.end(), l->adapter->a.begin(), l->adapter->a.end());
      all.insert(all.end(), l->adapter->b.begin(), l->adapter->b.end());
    }
  return all;
}

}  // namespace fettle
