#include "op/op_times.h"

#include <algorithm>

namespace fettle {

void OpTimes::add(const OpWork& work, double seconds) {
  auto at = std::find_if(all_.begin(), all_.end(), [&](const OpTime& t) { return t.work.name == work.name; });
  if (at == all_.end()) at = all_.insert(at, OpTime{{work.name}});
  at->work.f32 += work.f32;
  at->work.bf16 += work.bf16;
  at->work.int8 += work.int8;
  at->work.bytes += work.bytes;
  at->calls++;
  at->seconds += seconds;
}

}  // namespace fettle
