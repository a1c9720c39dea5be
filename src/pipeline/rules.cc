// Rules as people type them: "size<90MB, accuracy>=base_tuned-1pt, latency<5ms/token, kl<0.02". Each is metric, comparison, value; errors
// show the column and say what would have been understood.
#include <algorithm>
#include <charconv>
#include <cmath>

#include "pipeline/pipeline.h"

namespace fettle {
namespace {

const std::vector<std::string> kMetrics = {"size", "accuracy", "latency", "kl"};

class RuleReader {
 public:
  explicit RuleReader(const std::string& text) : text_(text) {}

  std::vector<Rule> rules() {
    std::vector<Rule> found;
    for (size_t begin = 0; begin <= text_.size();) {
      size_t end = std::min(text_.find(',', begin), text_.size());
      if (trim(std::string_view(text_).substr(begin, end - begin)).empty()) {
        if (text_.empty() || found.empty() || end < text_.size())
          complain(begin, "a rule is missing here", "rules read size<90MB, accuracy>=base_tuned-1pt");
        break;  // a trailing comma
      }
      found.push_back(rule(begin, end));
      begin = end + 1;
    }
    return found;
  }

 private:
  [[noreturn]] void complain(size_t at, const std::string& message, const std::string& hint) const {
    throw usage("rule at column " + std::to_string(at + 1) + ": " + message + "\n  " + text_ + "\n  " + std::string(at, ' ') + "^", hint);
  }

  void skip(size_t& at, size_t end) const {
    while (at < end && (text_[at] == ' ' || text_[at] == '\t')) at++;
  }

  Rule rule(size_t at, size_t end) const {
    skip(at, end);
    Rule r;
    const size_t start = at;
    while (at < end && (std::isalnum(static_cast<unsigned char>(text_[at])) || text_[at] == '_')) r.metric += text_[at++];
    if (std::find(kMetrics.begin(), kMetrics.end(), r.metric) == kMetrics.end()) {
      auto near = did_you_mean(r.metric, kMetrics);
      complain(start, "'" + r.metric + "' is nothing that is measured",
               near ? "did you mean " + *near + "?" : "size, accuracy, latency and kl are");
    }
    skip(at, end);
    const size_t sign = at;
    while (at < end && (text_[at] == '<' || text_[at] == '>' || text_[at] == '=')) r.comparison += text_[at++];
    const bool upper = r.comparison == "<" || r.comparison == "<=", lower = r.comparison == ">" || r.comparison == ">=";
    if (!upper && !lower)
      complain(sign, "one of < <= > >= is expected", "for example " + r.metric + (r.metric == "accuracy" ? ">=90%" : "<..."));
    if (lower != (r.metric == "accuracy"))
      complain(sign, r.metric + (lower ? " can be kept below a limit only" : " can be kept above a limit only"),
               lower ? "write " + r.metric + "<..." : "write accuracy>=...");
    skip(at, end);
    value(r, at, trim(std::string_view(text_).substr(at, end - at)));
    r.text = std::string(trim(std::string_view(text_).substr(start, end - start)));
    return r;
  }

  void value(Rule& r, size_t at, std::string_view text) const {
    if (r.metric == "size") {
      auto bytes = parse_bytes(text);
      if (!bytes || *bytes == 0) complain(at, "'" + std::string(text) + "' is no size", "sizes read 90MB (10^6) or 90MiB (2^20)");
      r.value = double(*bytes);
    } else if (r.metric == "latency") {
      if (text.ends_with("/token")) text.remove_suffix(6);
      auto seconds = parse_seconds(trim(text));
      if (!seconds || *seconds <= 0) complain(at, "'" + std::string(text) + "' is no time", "times read 5ms/token");
      r.value = *seconds;
    } else if (r.metric == "kl") {
      auto nats = number(text);
      if (!nats || *nats <= 0) complain(at, "'" + std::string(text) + "' is no positive number", "KL is in nats: kl<0.02");
      r.value = *nats;
    } else {
      accuracy(r, at, text);
    }
  }

  void accuracy(Rule& r, size_t at, std::string_view text) const {
    for (const char* reference : {"base_tuned", "tuned", "base"})
      if (text.starts_with(reference)) {
        r.reference = std::string_view(reference) == "tuned" ? "base_tuned" : reference;
        text.remove_prefix(std::string_view(reference).size());
        text = trim(text);
        break;
      }
    const char* example = "for example accuracy>=90%, accuracy>=base, accuracy>=base_tuned-1pt";
    if (r.reference.empty()) {
      auto share = points(text, true);
      if (!share || *share <= 0 || *share > 1) complain(at, "'" + std::string(text) + "' is no share between 0 and 100%", example);
      r.value = *share;
    } else if (!text.empty()) {
      const char sign = text[0];
      auto margin = sign == '-' || sign == '+' ? points(trim(text.substr(1)), false) : std::nullopt;
      if (!margin || *margin < 0 || *margin >= 1)
        complain(size_t(text.data() - text_.data()), "'" + std::string(text) + "' is no margin to " + r.reference, example);
      r.value = sign == '-' ? -*margin : *margin;
    }
  }

  // "1pt", "1%", "90%" -> 0.01, 0.01, 0.9; a bare number is a share where shares may be.
  static std::optional<double> points(std::string_view text, bool bare) {
    double unit = 0.01;
    if (text.ends_with("pt"))
      text.remove_suffix(2);
    else if (text.ends_with("pts"))
      text.remove_suffix(3);
    else if (text.ends_with("%"))
      text.remove_suffix(1);
    else if (bare)
      unit = 1;
    else
      return std::nullopt;
    auto value = number(trim(text));
    return value ? std::optional(*value * unit) : std::nullopt;
  }

  static std::optional<double> number(std::string_view text) {
    double value = 0;
    auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || !std::isfinite(value)) return std::nullopt;
    return value;
  }

  const std::string& text_;
};

}  // namespace

std::vector<Rule> parse_rules(const std::string& text) { return RuleReader(text).rules(); }

}  // namespace fettle
