// metrics.jsonl: one line a step. Private to the room.
#pragma once
#include <memory>
#include <string>

#include "train/train.h"

namespace fettle {

class MetricsLog {
 public:
  // Opens folder/metrics.jsonl for appending and keeps only whole lines of steps up to `last_step` (0: none).
  MetricsLog(const fs::path& folder, int64_t last_step);
  ~MetricsLog();
  MetricsLog(const MetricsLog&) = delete;
  MetricsLog& operator=(const MetricsLog&) = delete;
  // Error{failed} when the disk does not take the line.
  void write(const StepLog& log);

 private:
  fs::path path_;
  int fd_ = -1;
};

}  // namespace fettle
