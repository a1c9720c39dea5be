// Where the time of passes goes, operation by operation: what Run::times gathers.
#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "base/base.h"
#include "op/arithmetic.h"

namespace fettle {

// What an operation amounts to, whatever it is computed with.
struct OpWork {
  std::string name;                    // a linear's is its role, "attn_q"; linears of one call are one operation: "ffn_gate+ffn_up"
  double f32 = 0, bf16 = 0, int8 = 0;  // operations by what they are done in; a multiply-add is two, an exponential one
  double bytes = 0;  // that pass once at least: weights as the file stores them, cached keys and values, activations in and out
};

// All calls of one name.
struct OpTime {
  OpWork work;
  int64_t calls = 0;
  double seconds = 0;
};

class OpTimes {
 public:
  void add(const OpWork& work, double seconds);
  const std::vector<OpTime>& all() const { return all_; }  // in the order of first calls

 private:
  std::vector<OpTime> all_;
};

// Reports to `times` what lies between its making and the end of its scope; nullptr: does nothing. work() -> OpWork is asked at the end.
template <class Work>
class OpTimer {
 public:
  OpTimer(OpTimes* times, Work work) : times_(times), work_(std::move(work)), start_(times ? now_seconds() : 0) {}
  ~OpTimer() {
    if (!times_) return;
    const double seconds = now_seconds() - start_;
    times_->add(work_(), seconds);
  }
  OpTimer(const OpTimer&) = delete;
  OpTimer& operator=(const OpTimer&) = delete;

 private:
  OpTimes* times_;
  Work work_;
  double start_;
};

}  // namespace fettle
