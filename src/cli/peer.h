// Private to cli: a peer's speed, measured by a program of its own (tools/peer_llama.py) so that nothing of it lives in this process.
#pragma once
#include "cli/bench_work.h"

namespace fettle {

class Peer {
 public:
  // Finds Python ($FETTLE_PYTHON, else python3) and the script; Error{failed} with a hint when the peer cannot be imported.
  Peer(const fs::path& model, const BenchPlan& plan, int threads);
  // One turn: {"prefill": tokens per second, "decode": …, "batch": …, "batch_whole": …}. A peer that dies by a signal in the first one does
  // all of them without its extra buffers: weights repacked, for AMX among others, whose kernels crash on some machines. Error{failed} when
  // it dies without them too, or ends badly.
  Json turn();
  const std::string& name() const { return name_; }
  const std::string& version() const { return version_; }
  // What a reader of its figures should know; empty: nothing.
  const std::string& note() const { return note_; }

 private:
  std::vector<std::string> command_;
  std::string name_, version_, note_;
  bool first_ = true;
};

}  // namespace fettle
