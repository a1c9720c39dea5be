// Private to cli: what work will take, for --dry-run. Estimates, not promises: they shall tell a minute from an hour.
#pragma once
#include "cli/cli.h"

namespace fettle {

struct Needs {
  double seconds = 0, memory_bytes = 0, disk_bytes = 0;
  // What comes after this: times and files add up, memory is free again.
  void then(const Needs& next);
};

// A dry run's document: {"dry_run": true, "plan": {what, writes, seconds, memory_bytes, disk_bytes, energy_wh}}. what: the work in words.
// What is not known (0) is null there. Warns where the machine has not that much memory, or the disk of `writes` not that much room.
Json dry_run_document(const std::string& what, const std::vector<fs::path>& writes, const Needs& needs, int threads);
// Its "plan" on stdout.
void print_plan(const Json& document);

}  // namespace fettle
