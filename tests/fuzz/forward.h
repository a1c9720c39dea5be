// What a model does once it is open, on a few tokens: texts to ids and back, its template, and one forward, as it is computed exactly and
// as it is served. For the drivers that make models.
#pragma once
#include <algorithm>

#include "model/model.h"
#include "tokens.h"

namespace fettle {

inline void use_model(Model& model) {
  static Pool pool(1);
  use_tokenizer(*model.tokenizer, "Hi <|im_end|> there, 12345 \xC3\xA9\xE2\x96\x81\xFF");
  Batch batch;
  std::vector<int> ids;
  for (int i = 0; i < std::min(model.config.context, 5); i++) ids.push_back(i % model.config.vocabulary);
  batch.add(0, 0, ids, model.config.causal, model.config.causal);
  for (Precision precision : {Precision::exact, Precision::serving}) {
    Arena arena;
    if (!model.config.causal) {
      Run run{arena, pool, nullptr, nullptr, nullptr, precision};
      (void)model.hidden(run, batch);
      continue;
    }
    KvCache cache(model.kv_shape(), KvCache::usual_element(precision), 1, int(ids.size()));
    if (!cache.reserve(0, int(ids.size()))) std::abort();
    Run run{arena, pool, &cache, nullptr, nullptr, precision};
    (void)model.logits(run, batch);
  }
}

}  // namespace fettle
