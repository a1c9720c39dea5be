#include "compress/allocate.h"

#include <algorithm>

namespace fettle {
namespace {

// Indices of a tensor's options on the lower convex hull of (bytes, loss), by rising bytes and falling loss.
std::vector<size_t> hull_of(const std::vector<TypeOption>& options) {
  std::vector<size_t> order(options.size()), hull;
  for (size_t i = 0; i < order.size(); i++) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    const TypeOption &x = options[a], &y = options[b];
    return x.bytes != y.bytes ? x.bytes < y.bytes : x.loss != y.loss ? x.loss < y.loss : a < b;
  });
  const auto slope = [&](size_t a, size_t b) { return (options[a].loss - options[b].loss) / double(options[b].bytes - options[a].bytes); };
  for (size_t i : order) {
    if (!hull.empty() && (options[i].bytes == options[hull.back()].bytes || options[i].loss >= options[hull.back()].loss)) continue;
    while (hull.size() >= 2 && slope(hull[hull.size() - 2], hull.back()) <= slope(hull.back(), i)) hull.pop_back();
    hull.push_back(i);
  }
  return hull;
}

struct Step {
  double gain_per_byte;
  size_t tensor, at;  // from hull[at] to hull[at + 1]
};

}  // namespace

std::optional<std::vector<size_t>> allocate(const std::vector<std::vector<TypeOption>>& tensors, uint64_t limit) {
  std::vector<size_t> chosen(tensors.size());
  std::vector<Step> steps;
  std::vector<std::vector<size_t>> hulls;
  uint64_t used = 0;
  for (size_t t = 0; t < tensors.size(); t++) {
    hulls.push_back(hull_of(tensors[t]));
    const std::vector<size_t>& hull = hulls.back();
    chosen[t] = hull.front();
    used += tensors[t][chosen[t]].bytes;
    for (size_t i = 0; i + 1 < hull.size(); i++) {
      const TypeOption &a = tensors[t][hull[i]], &b = tensors[t][hull[i + 1]];
      steps.push_back({(a.loss - b.loss) / double(b.bytes - a.bytes), t, i});
    }
  }
  if (used > limit) return std::nullopt;
  // Within a tensor the hull makes later steps gain less, so this order never asks for a step before the one below it.
  std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.gain_per_byte > b.gain_per_byte; });
  for (const Step& s : steps) {
    const size_t from = hulls[s.tensor][s.at], to = hulls[s.tensor][s.at + 1];
    const uint64_t more = tensors[s.tensor][to].bytes - tensors[s.tensor][from].bytes;
    if (chosen[s.tensor] != from || used + more > limit) continue;
    chosen[s.tensor] = to;
    used += more;
  }
  // The crumbs: options beside the hulls too.
  for (bool found = true; found;) {
    found = false;
    double best = 0;
    size_t best_tensor = 0, best_option = 0;
    for (size_t t = 0; t < tensors.size(); t++) {
      const TypeOption& now = tensors[t][chosen[t]];
      for (size_t o = 0; o < tensors[t].size(); o++) {
        const TypeOption& then = tensors[t][o];
        if (now.loss - then.loss <= best || used - now.bytes + then.bytes > limit) continue;
        best = now.loss - then.loss;
        best_tensor = t;
        best_option = o;
        found = true;
      }
    }
    if (!found) break;
    used = used - tensors[best_tensor][chosen[best_tensor]].bytes + tensors[best_tensor][best_option].bytes;
    chosen[best_tensor] = best_option;
  }
  return chosen;
}

}  // namespace fettle
