#include "text/token_decoder.h"

#include <algorithm>
#include <numeric>

#include "text/bpe.h"
#include "text/unicode.h"
#include "text/vocabulary.h"

namespace fettle {
namespace {

using Kind = DecodeStep::Kind;

void replace_all(std::string& text, std::string_view what, std::string_view by) {
  if (what.empty() || text.find(what) == std::string::npos) return;
  std::string out;
  size_t done = 0;
  for (size_t at; (at = text.find(what, done)) != std::string::npos; done = at + what.size()) out.append(text, done, at - done).append(by);
  text = out.append(text, done);
}

// English spelling, as BERT's decoder mends it.
void cleanup(std::string& text) {
  constexpr std::pair<std::string_view, std::string_view> rules[] = {
      {" .", "."},   {" ?", "?"},           {" !", "!"},   {" ,", ","},     {" ' ", "'"},    {" n't", "n't"},
      {" 'm", "'m"}, {" do not", " don't"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"},
  };
  for (const auto& [what, by] : rules) replace_all(text, what, by);
}

// A token is bytes when all its characters are letters of bytes.
void letters(std::string& name) {
  std::string out;
  for (size_t at = 0; at < name.size();) {
    const Character c = decode_character(std::string_view(name).substr(at));
    const int byte = c.value < kInvalidByte ? byte_of_letter(c.value) : -1;
    if (byte < 0) return;
    out += static_cast<char>(byte);
    at += c.n_bytes;
  }
  name = std::move(out);
}

void strip(std::string& name, const DecodeStep& rule) {
  size_t begin = 0, end = name.size();
  const std::string_view all = name, what = rule.text;
  if (what.empty()) return;
  for (size_t i = 0; i < rule.start && all.substr(begin).starts_with(what); ++i) begin += what.size();
  for (size_t i = 0; i < rule.stop && end >= begin + what.size() && all.substr(0, end).ends_with(what); ++i) end -= what.size();
  name.erase(end);
  name.erase(0, begin);
}

}  // namespace

TokenDecoder::TokenDecoder(std::vector<DecodeStep> steps, const std::string& place) : place_(place) {
  require_few_rules(steps.size(), place);
  for (DecodeStep& rule : steps) {
    Step step{std::move(rule), {}};
    if (step.rule.kind == Kind::replace) step.matcher.emplace(step.rule.pattern, place);
    steps_.push_back(std::move(step));
  }
}

std::string TokenDecoder::decode(std::vector<std::string> names) const {
  const size_t most =
      most_made_of(std::accumulate(names.begin(), names.end(), size_t{0}, [](size_t n, const auto& s) { return n + s.size(); }));
  for (const Step& step : steps_) apply(step, names, most);
  return std::accumulate(names.begin(), names.end(), std::string(), [](std::string all, const std::string& name) {
    all += name;
    return all;
  });
}

void TokenDecoder::piece(std::string& name) const {
  const size_t most = most_made_of(name.size());
  for (const Step& step : steps_) {
    if (step.rule.kind == Kind::fuse) return;  // what follows is for the text as a whole
    each(step, name, false, false, most);
  }
}

void TokenDecoder::apply(const Step& step, std::vector<std::string>& names, size_t most) const {
  switch (step.rule.kind) {
    case Kind::fuse: {
      std::string all;
      for (const std::string& name : names) all += name;
      names.assign(1, std::move(all));
      return;
    }
    case Kind::ctc:
      names.erase(std::unique(names.begin(), names.end()), names.end());
      for (std::string& name : names) each(step, name, false, false, most);
      std::erase_if(names, [](const std::string& name) { return name.empty(); });
      return;
    default:
      size_t n_bytes = 0;
      for (size_t i = 0; i < names.size(); ++i) {
        each(step, names[i], i == 0, i + 1 == names.size(), most);
        if ((n_bytes += names[i].size()) > most) made_too_long(place_);
      }
  }
}

void TokenDecoder::each(const Step& step, std::string& name, bool first, bool last, size_t most) {
  const DecodeStep& rule = step.rule;
  switch (rule.kind) {
    case Kind::letters:
      return letters(name);
    case Kind::replace:
      return step.matcher->replace(name, rule.text, most);
    case Kind::bytes:
      if (const int byte = byte_of_token_name(name); byte >= 0) name.assign(1, static_cast<char>(byte));
      return;
    case Kind::strip:
      return strip(name, rule);
    case Kind::spaces_from:
      return replace_all(name, rule.text, first && rule.first ? "" : " ");
    case Kind::word_piece:
      if (first) return;
      if (name.starts_with(rule.text)) {
        name.erase(0, rule.text.size());
      } else {
        name.insert(name.begin(), ' ');
      }
      return;
    case Kind::word_ends:
      return replace_all(name, rule.text, last ? "" : " ");
    case Kind::cleanup:
      return cleanup(name);
    case Kind::ctc:
      replace_all(name, rule.text, "");
      if (!rule.first) return;
      cleanup(name);
      return replace_all(name, rule.delimiter, " ");
    case Kind::fuse:
      return;
  }
}

}  // namespace fettle
