// The registry of tasks: the files in task/, listed by CMake.
#include "eval/eval.h"

namespace fettle {

#define X(stem) extern const Task task_##stem;
#include "tasks.inc"
#undef X

std::span<const Task* const> tasks() {
  static const Task* const all[] = {
#define X(stem) &task_##stem,
#include "tasks.inc"
#undef X
  };
  return all;
}

const Task& find_task(const std::string& name) {
  std::vector<std::string> names;
  for (const Task* t : tasks()) {
    if (name == t->name) return *t;
    names.push_back(t->name);
  }
  const std::optional<std::string> near = did_you_mean(name, names);
  std::string known;
  for (const std::string& n : names) known += (known.empty() ? "" : ", ") + n;
  throw usage("there is no task '" + name + "'" + (near ? "; did you mean '" + *near + "'?" : ""), "the tasks are " + known);
}

}  // namespace fettle
