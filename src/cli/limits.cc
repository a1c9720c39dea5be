#include "cli/limits.h"

#include <algorithm>

#include "format/format.h"

namespace fettle {

PassCost pass_cost(const Model& model, const Format* kv) {
  PassCost c;
  double integer_weights = 0;
  for (const Linear* l : const_cast<Model&>(model).linears()) {
    const double share = model.share_of_rows(*l), products = share * l->in * l->out;
    c.block_products += products;
    c.weight_bytes += share * double(l->weight.bytes.size());
    if (l->weight.format->group) integer_weights += products;
  }
  c.head_products = double(model.head.in) * model.head.out;
  c.weight_bytes += double(model.head.weight.bytes.size());
  c.add_attention(model.kv_shape(), model.config.heads, kv);
  c.integers = integer_weights > c.block_products / 2;
  return c;
}

void PassCost::add_attention(const KvCache::Shape& shape, int heads, const Format* kv) {
  kv_bytes = double(shape.token_bytes(kv));
  attention = 2.0 * shape.layers * heads * shape.head_dim;
}

double PassCost::least_seconds(const MachineProbe& m, double rows, double wanted, double context, bool decoding) const {
  const double rate = m.gops(integers ? codes_arithmetic(decoding) : Arithmetic::bf16) * 1e9;
  const double products =
      2 * (rows * block_products + wanted * head_products) / rate + 2 * rows * context * attention / (m.f32_gflops * 1e9);
  const double bytes = weight_bytes + (decoding ? rows * context * kv_bytes : 0);
  return std::max(products, bytes / (m.read_gbps * 1e9));
}

double PassCost::least_f32_seconds(const MachineProbe& m, double rows, double wanted, double context) const {
  return 2 * (rows * (block_products + context * attention) + wanted * head_products) / (m.f32_gflops * 1e9);
}

}  // namespace fettle
