#include "serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>

namespace fettle {

void Metrics::Histogram::add(double seconds) {
  counts[size_t(std::lower_bound(kBounds.begin(), kBounds.end(), seconds) - kBounds.begin())]++;
  sum += seconds;
}

std::string Metrics::Histogram::text(const std::string& name, const std::string& help) const {
  std::string out = fmt::format("# HELP {0} {1}\n# TYPE {0} histogram\n", name, help);
  uint64_t below = 0;
  for (size_t i = 0; i < kBounds.size(); i++) {
    below += counts[i];
    out += fmt::format("{}_bucket{{le=\"{}\"}} {}\n", name, kBounds[i], below);
  }
  below += counts.back();
  return out + fmt::format("{0}_bucket{{le=\"+Inf\"}} {1}\n{0}_sum {2}\n{0}_count {1}\n", name, below, sum);
}

void Metrics::finished(const std::string& route, unsigned status, double seconds) {
  std::lock_guard lock(mutex_);
  requests_[{route, status}]++;
  seconds_.add(seconds);
}

void Metrics::first_token(double seconds) {
  std::lock_guard lock(mutex_);
  first_token_.add(seconds);
}

std::string Metrics::text() const {
  std::lock_guard lock(mutex_);
  std::string out = "# HELP fettle_http_requests_total Requests answered.\n# TYPE fettle_http_requests_total counter\n";
  for (const auto& [key, count] : requests_) {
    out += fmt::format("fettle_http_requests_total{{route=\"{}\",status=\"{}\"}} {}\n", key.first, key.second, count);
  }
  out += fmt::format("# HELP fettle_connections Open connections.\n# TYPE fettle_connections gauge\nfettle_connections {}\n",
                     connections.load());
  out += fmt::format(
      "# HELP fettle_client_disconnects_total Answers cancelled because the client went away.\n"
      "# TYPE fettle_client_disconnects_total counter\nfettle_client_disconnects_total {}\n",
      disconnects.load());
  out += seconds_.text("fettle_http_request_seconds", "From the whole request to the end of its answer.");
  out += first_token_.text("fettle_first_token_seconds", "From the whole request to its answer's first token.");
  return out;
}

}  // namespace fettle
