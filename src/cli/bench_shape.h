// Private to cli: model files of real shapes and random weights, for timing models that nobody wants to download.
#pragma once
#include "cli/cli.h"
#include "cli/limits.h"

namespace fettle {

std::vector<std::string> shape_names();
// Writes a Llama of that shape. type: a format's name, or Q4_K_M and Q5_K_M (as llama.cpp mixes them). Error{usage}, Error{failed} when the
// disk has no room.
void write_shape(const std::string& shape, const std::string& type, const fs::path& path);
struct ShapePlan {
  PassCost cost;
  uint64_t bytes = 0;
};
// What write_shape would write, and what a pass with a cache of this element would take. Error{usage}
ShapePlan plan_shape(const std::string& shape, const std::string& type, const Format* kv);

// A folder for temporary files that goes away with its owner.
class ScratchFolder {
 public:
  ScratchFolder();
  ~ScratchFolder();
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

}  // namespace fettle
