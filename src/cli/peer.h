// Private to cli: a peer's speed, measured by a program of its own (tools/peer_llama.py) so that nothing of it lives in this process.
#pragma once
#include "cli/bench_work.h"

namespace fettle {

class Peer {
 public:
  // Finds Python ($FETTLE_PYTHON, else python3) and the script; Error{failed} with a hint when the peer cannot be imported.
  Peer(const fs::path& model, const BenchPlan& plan, int threads);
  // One turn: {"prefill": tokens per second, "decode": …, "batch": …, "batch_whole": …}.
  Json turn() const;
  const std::string& name() const { return name_; }
  const std::string& version() const { return version_; }

 private:
  std::vector<std::string> command_;
  std::string name_, version_;
};

// Standard output of a program; its standard error is ours. Error{failed} when it cannot be started or ends badly.
std::string output_of(const std::vector<std::string>& command);

}  // namespace fettle
