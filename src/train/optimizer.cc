#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace fettle {
namespace {

constexpr int64_t kPiece = 1 << 15;  // numbers of a task: a partition that does not depend on threads

// Stretches of at most kPiece numbers, none across two parameters.
struct Piece {
  const Parameter* parameter;
  int64_t at, count, global;  // within the parameter; in all parameters together
};

std::vector<Piece> pieces(const std::vector<Parameter>& parameters) {
  std::vector<Piece> list;
  int64_t global = 0;
  for (const Parameter& p : parameters) {
    const int64_t n = int64_t(p.value.size());
    for (int64_t at = 0; at < n; at += kPiece) list.push_back({&p, at, std::min(kPiece, n - at), global + at});
    global += n;
  }
  return list;
}

}  // namespace

double usual_learning_rate(const Config& config, const std::string& method) {
  const double lora = 5e-4 * std::pow(2000.0 / config.d_model, 0.775);
  return method == "full" ? lora / 10 : method == "scales" ? 1.5e-4 : lora;
}

double learning_rate(const TrainOptions& o, int64_t step, int64_t total) {
  const double asked = o.warmup < 1 ? std::ceil(o.warmup * double(total)) : o.warmup;
  const double warm = std::min(asked, double(total));
  if (double(step) < warm) return o.lr * double(step + 1) / warm;
  if (o.schedule == "constant") return o.lr;
  const double done = (double(step) - warm) / std::max(1.0, double(total) - warm);
  return o.schedule == "linear" ? o.lr * (1 - done) : o.lr * 0.5 * (1 + std::cos(std::numbers::pi * done));
}

double gradient_norm(const std::vector<Parameter>& parameters, Pool& pool) {
  const std::vector<Piece> list = pieces(parameters);
  std::vector<double> sums(list.size());
  pool.run(int(list.size()), [&](int i) {
    const Piece& p = list[size_t(i)];
    const float* g = p.parameter->grad.data() + p.at;
    double sum = 0;
    for (int64_t j = 0; j < p.count; j++) sum += double(g[j]) * g[j];
    sums[size_t(i)] = sum;
  });
  double sum = 0;
  for (double s : sums) sum += s;
  return std::sqrt(sum);
}

void AdamW::update(const std::vector<Parameter>& parameters, const TrainOptions& o, int64_t step, double lr, double factor, Pool& pool) {
  const std::vector<Piece> list = pieces(parameters);
  const float decay = float(1 - lr * o.weight_decay), b1 = float(o.beta1), b2 = float(o.beta2), epsilon = float(o.epsilon);
  const float size = float(lr / (1 - std::pow(o.beta1, double(step))));
  const float root = float(1 / std::sqrt(1 - std::pow(o.beta2, double(step))));
  const float scale = float(factor);
  pool.run(int(list.size()), [&](int i) {
    const Piece& p = list[size_t(i)];
    float* w = p.parameter->value.data() + p.at;
    const float* gradient = p.parameter->grad.data() + p.at;
    float *m = first.data() + p.global, *v = second.data() + p.global;
    for (int64_t j = 0; j < p.count; j++) {
      const float g = gradient[j] * scale;
      m[j] += (1 - b1) * (g - m[j]);
      v[j] = b2 * v[j] + (1 - b2) * g * g;
      w[j] = decay * w[j] - size * m[j] / (std::sqrt(v[j]) * root + epsilon);
    }
  });
}

}  // namespace fettle
