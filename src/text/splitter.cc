// What becomes of matches and of what lies between them follows Hugging Face's five behaviours; each is decided with one piece of memory.
#include "text/splitter.h"

#include <algorithm>

#include "text/bpe.h"
#include "text/unicode.h"

namespace fettle {
namespace {

using Kind = SplitStep::Kind;
using Behavior = SplitStep::Behavior;

constexpr int kMostRewrites = 4;  // each makes a piece twice as long or more

bool rewrites(Kind kind) { return kind == Kind::spaces_to || kind == Kind::prefix_space || kind == Kind::letters; }

bool in_class(Kind kind, const Character& c) {
  switch (kind) {
    case Kind::numbers:
      return (character_class(c.value) & kNumber) != 0;
    case Kind::white_space:
      return (character_class(c.value) & kSpace) != 0;
    default:
      return is_punctuation(c.value);
  }
}

// Takes matches and gaps in turn and gives out pieces. Empty ones count for what is a neighbour of what, and are not given out.
class Joiner {
 public:
  Joiner(std::string_view text, Behavior behavior, bool invert, FunctionRef<void(std::string_view)> emit)
      : text_(text), behavior_(behavior), invert_(invert), emit_(emit) {}

  void add(size_t begin, size_t end, bool match) {
    match = match != invert_;
    bool join = false;
    switch (behavior_) {
      case Behavior::isolated:
        break;
      case Behavior::removed:
        if (match) return;
        break;
      case Behavior::with_previous:
        join = match && !previous_ && pending_;
        break;
      case Behavior::with_next:
        join = !match && previous_ && pending_;
        break;
      case Behavior::contiguous:
        join = match == previous_ && pending_;
        break;
    }
    if (!join) {
      flush();
      begin_ = begin;
      pending_ = true;
    }
    end_ = end;
    previous_ = match;
  }
  void flush() {
    if (pending_ && end_ > begin_) emit_(text_.substr(begin_, end_ - begin_));
    pending_ = false;
  }

 private:
  std::string_view text_;
  Behavior behavior_;
  bool invert_;
  FunctionRef<void(std::string_view)> emit_;
  size_t begin_ = 0, end_ = 0;
  bool pending_ = false, previous_ = false;
};

}  // namespace

Splitter::Splitter(std::vector<SplitStep> steps, const std::string& place) {
  require_few_rules(steps.size(), place);
  if (std::count_if(steps.begin(), steps.end(), [](const SplitStep& s) { return rewrites(s.kind); }) > kMostRewrites) made_too_long(place);
  for (SplitStep& rule : steps) {
    Step step{std::move(rule), {}, {}};
    if (step.rule.kind == Kind::pattern) {
      const bool whole = step.rule.behavior == Behavior::isolated || (step.rule.behavior == Behavior::removed && step.rule.invert);
      if (step.rule.pattern.regex && whole) step.scanner = find_scanner(step.rule.pattern.text);
      if (!step.scanner) step.matcher.emplace(step.rule.pattern, place);
    }
    // every number apart, then GPT-2's rule: one scanner does both
    const bool digits = !steps_.empty() && steps_.back().rule.kind == Kind::numbers && steps_.back().rule.behavior == Behavior::isolated;
    if (step.scanner && step.scanner->family == PreTokenizer::Family::gpt2 && digits) {
      steps_.pop_back();
      step.scanner->max_digits = 1;
    }
    steps_.push_back(std::move(step));
  }
  letters_ = !steps_.empty() && steps_.back().rule.kind == Kind::letters;
  if (letters_) steps_.pop_back();
}

void Splitter::split(std::string_view text, bool at_start, Emit piece) const {
  if (!text.empty()) run(0, text, at_start, piece);
}

void Splitter::run(size_t i, std::string_view text, bool at_start, Emit emit) const {
  if (i == steps_.size()) return emit(text);
  const Step& step = steps_[i];
  const char* begin = text.data();
  const auto next = [&](std::string_view piece) { run(i + 1, piece, at_start && piece.data() == begin, emit); };
  if (!rewrites(step.rule.kind)) return cut(step, text, next);
  const std::string changed = rewritten(step.rule, text, at_start);
  begin = changed.data();
  if (!step.rule.split) return next(changed);
  // pieces begin at the characters that stand for spaces
  const std::string_view mark = step.rule.text;
  Joiner joiner(changed, Behavior::with_next, false, next);
  size_t done = 0;
  for (size_t at = 0; !mark.empty() && (at = changed.find(mark, at)) != std::string::npos; at = done) {
    if (at > done) joiner.add(done, at, false);
    joiner.add(at, at + mark.size(), true);
    done = at + mark.size();
  }
  if (done < changed.size()) joiner.add(done, changed.size(), false);
  joiner.flush();
}

std::string Splitter::rewritten(const SplitStep& rule, std::string_view text, bool at_start) {
  std::string out;
  if (rule.kind == Kind::prefix_space) {
    if (!text.starts_with(' ')) out += ' ';
    return out.append(text);
  }
  if (rule.kind == Kind::letters) {
    for (const char c : text) append_utf8(out, letter_of_byte(static_cast<uint8_t>(c)));
    return out;
  }
  const bool wanted = rule.prefix == SplitStep::Prefix::always || (rule.prefix == SplitStep::Prefix::first && at_start);
  if (wanted && !text.starts_with(' ') && !text.starts_with(rule.text)) out += rule.text;
  for (const char c : text) {
    if (c == ' ') {
      out += rule.text;
    } else {
      out += c;
    }
  }
  return out;
}

void Splitter::cut(const Step& step, std::string_view text, Emit emit) const {
  if (step.scanner) {
    for (size_t at = 0; at < text.size();) {
      const size_t n = pre_token_bytes(*step.scanner, text, at);
      emit(text.substr(at, n));
      at += n;
    }
    return;
  }
  Joiner joiner(text, step.rule.behavior, step.rule.invert, emit);
  size_t done = 0;
  each_match(step, text, [&](size_t begin, size_t end) {
    if (begin > done) joiner.add(done, begin, false);
    joiner.add(begin, end, true);
    done = end;
  });
  if (done < text.size()) joiner.add(done, text.size(), false);
  joiner.flush();
}

void Splitter::each_match(const Step& step, std::string_view text, Match match) {
  if (step.matcher) return step.matcher->each_match(text, match);
  const Kind kind = step.rule.kind;
  size_t begin = 0, count = 0;
  for (size_t at = 0; at < text.size();) {
    const Character c = decode_character(text.substr(at));
    const size_t end = at + c.n_bytes;
    if (kind == Kind::n_characters) {
      if (++count == step.rule.n || end == text.size()) {
        match(begin, end);
        begin = end;
        count = 0;
      }
    } else if (kind == Kind::words) {  // \w+|[^\w\s]+
      const auto what = [](const Character& x) { return is_word(x.value) ? 2 : (character_class(x.value) & kSpace) != 0 ? 0 : 1; };
      const bool last = end == text.size() || what(decode_character(text.substr(end))) != what(c);
      if (last && what(c) != 0) match(begin, end);
      if (last) begin = end;
    } else if (in_class(kind, c)) {
      match(at, end);
    }
    at = end;
  }
}

}  // namespace fettle
