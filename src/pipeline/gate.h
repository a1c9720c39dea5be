// Private to pipeline: from measurements to verdicts.
#pragma once
#include <optional>

#include "pipeline/pipeline.h"

namespace fettle {

struct Measured {
  double bytes = 0;
  const Score* base = nullptr;  // the three scored on the same rows; needed by accuracy rules
  const Score* tuned = nullptr;
  const Score* compressed = nullptr;
  std::optional<Interval> seconds_per_token, kl;
};

GateResult judge(const Rule& rule, const Measured& measured);

// Before anything was measured: a sentence where so few rows can hardly prove the rule, however good the model; empty: they can.
std::string hard_to_prove(const Rule& rule, int64_t rows);

}  // namespace fettle
