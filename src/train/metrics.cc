#include "train/metrics.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>

namespace fettle {
namespace {

// The lines that a resumed run continues: a line may be torn (killed while writing) and steps behind the checkpoint will be taken again.
std::string kept_lines(const fs::path& path, int64_t last_step) {
  std::string kept;
  if (last_step == 0 || !fs::exists(path)) return kept;
  const std::string text = read_text(path, size_t(1) << 32);
  for (size_t at = 0, end; (end = text.find('\n', at)) != std::string::npos; at = end + 1) {
    const std::string line = text.substr(at, end - at);
    const nlohmann::json j = nlohmann::json::parse(line, nullptr, false);
    if (!j.is_object() || !j.contains("step") || !j["step"].is_number_integer()) continue;
    if (j["step"].get<int64_t>() <= last_step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

MetricsLog::MetricsLog(const fs::path& folder, int64_t last_step) : path_(folder / "metrics.jsonl") {
  write_text(path_, kept_lines(path_, last_step));
  fd_ = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (fd_ < 0) throw failed(path_.string(), std::string("cannot be written: ") + std::strerror(errno));
}

MetricsLog::~MetricsLog() {
  if (fd_ >= 0) ::close(fd_);
}

void MetricsLog::write(const StepLog& log) {
  nlohmann::ordered_json j = {{"step", log.step}, {"epoch", log.epoch},         {"tokens", log.tokens},  {"loss", log.loss},
                              {"lr", log.lr},     {"grad_norm", log.grad_norm}, {"seconds", log.seconds}};
  if (log.eval_loss) j["eval_loss"] = *log.eval_loss;
  const std::string line = j.dump() + "\n";
  if (::write(fd_, line.data(), line.size()) != ssize_t(line.size()))
    throw failed(path_.string(), std::string("cannot be written: ") + std::strerror(errno));
}

}  // namespace fettle
