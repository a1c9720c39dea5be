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

// Tokens whose keys and values a bench keeps at a time. Error{refused} when they would take more than half of this machine's memory.
int64_t cached_tokens(const BenchPlan& plan);
void check_cache(const PassCost& cost, const BenchPlan& plan);

class BenchRig {
 public:
  BenchRig(std::shared_ptr<Model> model, const BenchPlan& plan, int threads);
  void warm_up();
  BenchTimes turn();

 private:
  void feed(const Batch& batch);
  double time_prefill();
  double time_decode();
  void time_batch(BenchTimes& times);
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

}  // namespace fettle
