// Private to pipeline: how doctor notes what it finds, and mends it.
#pragma once
#include <functional>
#include <string>

#include "pipeline/pipeline.h"

namespace fettle {

class Doctor {
 public:
  explicit Doctor(bool mend) : mend_(mend) {}
  // "WHAT is wrong", "adds the row" (what mending would do); repair mends and returns what it has done (""
  // where it leaves the rest to a person). Where it throws, WHAT is left.
  void found(const std::string& what, const std::string& would, const std::function<std::string()>& repair);
  void leave(const std::string& sentence) { said.left.push_back(sentence); }
  Checkup said;

 private:
  bool mend_;
};

// Temporary files and folders of processes that are gone, and downloads that stopped, below the home.
void check_leftovers(Doctor& doctor);

}  // namespace fettle
