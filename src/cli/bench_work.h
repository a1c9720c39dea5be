// Private to cli: the works that bench times, on the model's own forward pass, and what this machine could do at best.
#pragma once
#include "cli/limits.h"
#include "cli/model_use.h"

namespace fettle {

struct BenchPlan {
  int prefill = 512, decode = 128, sequences = 0, prompt = 128, fresh = 64;  // sequences > 0: batch, each prompt + fresh tokens
  int repeat = 5;
  const Format* kv = KvCache::usual_element(Precision::serving);  // what the cache keeps keys and values in
};
// "128+64" -> prompt, fresh. Error{usage}.
void parse_each(const std::string& text, BenchPlan& plan);

// Seconds of one turn. batch: decoding alone; batch_prompts: the prompts before it.
struct BenchTimes {
  double prefill = 0, decode = 0, batch = 0, batch_prompts = 0;
};

// Operations of a turn's works; of batch those of decoding.
struct BenchOps {
  OpTimes prefill, decode, batch;
};

// Tokens whose keys and values a bench keeps at a time. Error{refused} when they would take more than half of this machine's memory.
int64_t cached_tokens(const BenchPlan& plan);
void check_cache(const PassCost& cost, const BenchPlan& plan);

class BenchRig {
 public:
  BenchRig(std::shared_ptr<Model> model, const BenchPlan& plan, int threads);
  void warm_up();
  // ops: measures single operations too, which takes time of its own.
  BenchTimes turn(BenchOps* ops = nullptr);

 private:
  void feed(const Batch& batch, OpTimes* ops = nullptr);
  double time_prefill(OpTimes* ops);
  double time_decode(OpTimes* ops);
  void time_batch(BenchTimes& times, OpTimes* ops);
  std::shared_ptr<Model> model_;
  BenchPlan plan_;
  Pool pool_;
  Arena arena_;
  std::unique_ptr<KvCache> cache_;
};

// Of one turn() at least.
double least_turn_seconds(const PassCost& cost, const BenchPlan& plan, const MachineProbe& machine);
// Rows {work, tokens, sequences, context, tokens_per_s, runs, limit, share} of several turns.
Json bench_rows(const Model& model, const BenchPlan& plan, const std::vector<BenchTimes>& turns, const MachineProbe& machine);
// Rows {work, op, calls, seconds, share, arithmetic, gops, gops_share, gbps, gbps_share} of one turn, in the order of a pass. share: of the
// work's time; gops_share and gbps_share: of what the machine does of this arithmetic, and reads.
Json bench_op_rows(const BenchPlan& plan, const BenchTimes& turn, const BenchOps& ops, const MachineProbe& machine);

}  // namespace fettle
