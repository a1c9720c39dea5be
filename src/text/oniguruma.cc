// Oniguruma's syntax (as Ruby writes it, which is what Hugging Face's tokenizers read) said in PCRE2's: what \s, \w, \b, \h and \v stand
// for, names of properties, sets within sets and their intersections, {n,m}+ (repeated, not possessive), (?m) for a dot that matches line
// ends. Not handled: folding of one letter to several, \xHH above 7F as raw bytes, names of Unicode blocks, absent operators.
#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include <algorithm>
#include <array>
#include <vector>

#include "base/base.h"
#include "text/regex.h"

namespace fettle {
namespace {

constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

// Long names of general categories and POSIX names, lower case without '_', '-' and ' ', and what they are inside of a set.
constexpr std::pair<std::string_view, std::string_view> kProperties[] = {
    {"letter", R"(\p{L})"},
    {"casedletter", R"(\p{L&})"},
    {"uppercaseletter", R"(\p{Lu})"},
    {"lowercaseletter", R"(\p{Ll})"},
    {"titlecaseletter", R"(\p{Lt})"},
    {"modifierletter", R"(\p{Lm})"},
    {"otherletter", R"(\p{Lo})"},
    {"mark", R"(\p{M})"},
    {"combiningmark", R"(\p{M})"},
    {"nonspacingmark", R"(\p{Mn})"},
    {"spacingmark", R"(\p{Mc})"},
    {"enclosingmark", R"(\p{Me})"},
    {"number", R"(\p{N})"},
    {"decimalnumber", R"(\p{Nd})"},
    {"letternumber", R"(\p{Nl})"},
    {"othernumber", R"(\p{No})"},
    {"punctuation", R"(\p{P})"},
    {"connectorpunctuation", R"(\p{Pc})"},
    {"dashpunctuation", R"(\p{Pd})"},
    {"openpunctuation", R"(\p{Ps})"},
    {"closepunctuation", R"(\p{Pe})"},
    {"initialpunctuation", R"(\p{Pi})"},
    {"finalpunctuation", R"(\p{Pf})"},
    {"otherpunctuation", R"(\p{Po})"},
    {"symbol", R"(\p{S})"},
    {"mathsymbol", R"(\p{Sm})"},
    {"currencysymbol", R"(\p{Sc})"},
    {"modifiersymbol", R"(\p{Sk})"},
    {"othersymbol", R"(\p{So})"},
    {"separator", R"(\p{Z})"},
    {"spaceseparator", R"(\p{Zs})"},
    {"lineseparator", R"(\p{Zl})"},
    {"paragraphseparator", R"(\p{Zp})"},
    {"other", R"(\p{C})"},
    {"control", R"(\p{Cc})"},
    {"format", R"(\p{Cf})"},
    {"unassigned", R"(\p{Cn})"},
    {"privateuse", R"(\p{Co})"},
    {"alnum", R"(\p{Alphabetic}\p{Nd})"},
    {"alpha", R"(\p{Alphabetic})"},
    {"blank", R"(\p{Zs}\t)"},
    {"cntrl", R"(\p{Cc}\p{Cf}\p{Cn}\p{Co})"},
    {"digit", R"(\p{Nd})"},
    {"lower", R"(\p{Lowercase})"},
    {"punct", R"(\p{P}$+<=>\^`|~)"},
    {"space", R"(\p{White_Space})"},
    {"upper", R"(\p{Uppercase})"},
    {"xdigit", "0-9A-Fa-f"},
    {"word", kWord},
    {"any", R"(\x{0}-\x{10FFFF})"},
};

bool compiles(const std::string& expression) {
  int error = 0;
  size_t at = 0;
  pcre2_code* code = pcre2_compile(PCRE2_SPTR(expression.data()), expression.size(), PCRE2_UTF | PCRE2_UCP, &error, &at, nullptr);
  pcre2_code_free(code);
  return code != nullptr;
}

class Translation {
 public:
  Translation(std::string_view source, const std::string& place) : source_(source), place_(place) {}

  std::string all() {
    std::vector<size_t> groups;
    while (at_ < source_.size()) {
      const char c = source_[at_];
      if (c == '\\') {
        atom_ = out_.size();
        out_ += escape();
      } else if (c == '[') {
        atom_ = out_.size();
        ++at_;
        out_ += set(0);
      } else if (c == '(') {
        groups.push_back(out_.size());
        open_group();
      } else if (c == ')') {
        if (groups.empty()) fail("a closing parenthesis opens nothing");
        atom_ = groups.back();
        groups.pop_back();
        out_ += source_[at_++];
      } else if (c == '{') {
        interval();
      } else {
        if (c != '*' && c != '+' && c != '?' && (static_cast<uint8_t>(c) & 0xC0) != 0x80) atom_ = out_.size();
        out_ += c;
        ++at_;
      }
    }
    return std::move(out_);
  }

 private:
  // What a set holds so far: what can stand between brackets, and further expressions of one character each.
  struct Operand {
    std::string inside;
    std::vector<std::string> others;
    std::string expression() const {
      if (others.empty()) return "[" + inside + "]";
      std::string all = "(?:";
      if (!inside.empty()) all += "[" + inside + "]|";
      for (const std::string& other : others) all += other + "|";
      all.back() = ')';
      return all;
    }
  };

  [[noreturn]] void fail(const std::string& what) const {
    throw refused(place_, "the regular expression '" + std::string(source_.substr(0, 200)) + "' cannot be read: " + what);
  }
  bool next_is(std::string_view text) const { return source_.substr(at_).starts_with(text); }

  // "(?m" is Ruby's name for "(?s"; everything else behind a parenthesis is written alike.
  void open_group() {
    out_ += source_[at_++];
    if (!next_is("?")) return;
    size_t end = at_ + 1;
    while (end < source_.size() && std::string_view("imx-").find(source_[end]) != std::string_view::npos) ++end;
    if (end == at_ + 1 || end == source_.size() || (source_[end] != ':' && source_[end] != ')')) return;
    for (; at_ < end; ++at_) out_ += source_[at_] == 'm' ? 's' : source_[at_];
  }

  // {n}, {n,}, {n,m}, {,m}; else a brace is a character.
  void interval() {
    const auto digits = [&](size_t from) {
      while (from < source_.size() && source_[from] >= '0' && source_[from] <= '9') ++from;
      return from;
    };
    const size_t low = digits(at_ + 1);
    const bool comma = low < source_.size() && source_[low] == ',';
    const size_t high = comma ? digits(low + 1) : low;
    const bool numbers = low > at_ + 1 || high > low + 1;
    if (!numbers || high >= source_.size() || source_[high] != '}') {
      atom_ = out_.size();
      out_ += "\\{";
      ++at_;
      return;
    }
    out_ += low == at_ + 1 ? "{0" : std::string(source_.substr(at_, low - at_));
    out_ += source_.substr(low, high + 1 - low);
    at_ = high + 1;
    if (next_is("+")) {  // repeats once more; PCRE2 would take it for a possessive quantifier
      out_.insert(atom_, "(?:");
      out_ += ')';
    }
  }

  uint32_t hex(size_t most) {
    const size_t begin = at_;
    uint32_t value = 0;
    for (; at_ < source_.size() && at_ - begin < most; ++at_) {
      const char c = source_[at_];
      const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
      if (digit < 0) break;
      value = value * 16 + static_cast<uint32_t>(digit);
    }
    if (at_ == begin) fail("digits are missing");
    return value;
  }
  static std::string code_point(uint32_t value) {
    char text[16];
    std::snprintf(text, sizeof text, "\\x{%X}", value);
    return text;
  }

  // \p{…} or \P{…}, read up to its brace: what it is inside of a set, and whether it is negated.
  std::pair<std::string, bool> property(bool negated) {
    const size_t end = source_.find('}', at_);
    if (!next_is("{") || end == std::string_view::npos || end - at_ > 64) fail("a property has no name in braces");
    std::string_view given = source_.substr(at_ + 1, end - at_ - 1);
    at_ = end + 1;
    if (given.starts_with('^')) {
      negated = !negated;
      given.remove_prefix(1);
    }
    std::string name;
    for (const char c : given) {
      if (c != '_' && c != '-' && c != ' ') name += c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
    }
    for (const auto& [known, inside] : kProperties) {
      if (known == name) return {std::string(inside), negated};
    }
    if (!std::all_of(name.begin(), name.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }) || name.empty()) {
      fail("there is no property '" + std::string(given) + "'");
    }
    std::string category = name;
    category[0] = static_cast<char>(category[0] - 32);
    for (const std::string& candidate : {name.size() <= 2 ? "\\p{" + category + "}" : "\\p{sc:" + name + "}", "\\p{" + name + "}"}) {
      if (compiles(candidate)) return {candidate, negated};
    }
    fail("there is no property '" + std::string(given) + "'");
  }

  // An escape that stands for several characters: what it is inside of a set, and whether it is negated. nullopt: it stands for one.
  std::optional<std::pair<std::string, bool>> several() {
    const char c = source_[at_];
    const bool upper = c >= 'A' && c <= 'Z';
    switch (c) {
      case 's':
      case 'S':
        ++at_;
        return std::pair<std::string, bool>{R"(\p{White_Space})", upper};
      case 'w':
      case 'W':
        ++at_;
        return std::pair<std::string, bool>{kWord, upper};
      case 'd':
      case 'D':
        ++at_;
        return std::pair<std::string, bool>{R"(\p{Nd})", upper};
      case 'h':
      case 'H':
        ++at_;
        return std::pair<std::string, bool>{"0-9A-Fa-f", upper};
      case 'p':
      case 'P':
        ++at_;
        return property(upper);
      default:
        return std::nullopt;
    }
  }

  // An escape of one character, its letter at at_.
  std::string one() {
    const char c = source_[at_++];
    switch (c) {
      case 'v':
        return "\\x{B}";
      case 'u':
        return code_point(hex(4));
      case 'x': {
        if (!next_is("{")) return code_point(hex(2));
        ++at_;
        const uint32_t value = hex(8);
        if (!next_is("}")) fail("a brace is not closed");
        ++at_;
        return code_point(value);
      }
      default:
        break;
    }
    if (std::string_view("tnrfae0123456789").find(c) != std::string_view::npos) return {'\\', c};
    if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<uint8_t>(c) >= 0x80) return {c};
    return {'\\', c};
  }

  // An escape outside of a set.
  std::string escape() {
    if (++at_ == source_.size()) fail("it ends in a backslash");
    if (const auto set = several()) {
      if (set->first.starts_with("\\p{") && set->first.find('}') + 1 == set->first.size()) {
        return (set->second ? "\\P" : "\\p") + set->first.substr(2);
      }
      return (set->second ? "[^" : "[") + set->first + "]";
    }
    const char c = source_[at_];
    const std::string word = "[" + std::string(kWord) + "]";
    if (c == 'b' || c == 'B') {
      ++at_;
      const std::string other = c == 'b' ? "!" : "=", same = c == 'b' ? "=" : "!";
      return "(?:(?<=" + word + ")(?" + other + word + ")|(?<!" + word + ")(?" + same + word + "))";
    }
    if (c == 'O') {
      ++at_;
      return "(?s:.)";
    }
    if (std::string_view("RXKGAzZNkg").find(c) != std::string_view::npos) {
      ++at_;
      return {'\\', c};
    }
    return one();
  }

  // A set behind its opening bracket, as an expression of one character.
  std::string set(int depth) {
    if (depth > 20) fail("sets are nested too deeply");
    const bool negated = next_is("^");
    if (negated) ++at_;
    std::vector<Operand> operands(1);
    for (bool first = true;; first = false) {
      if (at_ >= source_.size()) fail("a set is not closed");
      Operand& operand = operands.back();
      if (next_is("]") && !first) break;
      if (next_is("[:")) {
        posix(operand);
      } else if (next_is("[")) {
        ++at_;
        operand.others.push_back(set(depth + 1));
      } else if (next_is("&&")) {
        at_ += 2;
        operands.emplace_back();
      } else if (next_is("\\")) {
        escape_in_set(operand);
      } else {
        operand.inside += next_is("]") ? "\\]" : std::string(1, source_[at_]);
        ++at_;
      }
    }
    ++at_;
    if (operands.size() == 1 && operands[0].others.empty()) return (negated ? "[^" : "[") + operands[0].inside + "]";
    std::string all = "(?:";
    for (const Operand& operand : operands) {
      if (operand.inside.empty() && operand.others.empty()) fail("a set is empty");
      if (&operand != &operands[0]) all += "(?=" + operand.expression() + ")";
    }
    all += operands[0].expression() + ")";
    return negated ? "(?:(?!" + all + ")(?s:.))" : all;
  }

  void posix(Operand& operand) {
    const size_t end = source_.find(":]", at_);
    if (end == std::string_view::npos || end - at_ > 16) {  // no name: a bracket opens a set within the set
      ++at_;
      operand.others.push_back(set(1));
      return;
    }
    std::string_view name = source_.substr(at_ + 2, end - at_ - 2);
    at_ = end + 2;
    const bool negated = name.starts_with('^');
    if (negated) name.remove_prefix(1);
    for (const auto& [known, inside] : kProperties) {
      if (known == name) return add(operand, {std::string(inside), negated});
    }
    operand.inside += (negated ? "[:^" : "[:") + std::string(name) + ":]";
  }

  void escape_in_set(Operand& operand) {
    if (++at_ == source_.size()) fail("it ends in a backslash");
    if (const auto set = several()) return add(operand, *set);
    if (source_[at_] == 'b') {
      ++at_;
      operand.inside += "\\x{8}";
      return;
    }
    operand.inside += one();
  }

  static void add(Operand& operand, const std::pair<std::string, bool>& set) {
    if (set.second) {
      operand.others.push_back("[^" + set.first + "]");
    } else {
      operand.inside += set.first;
    }
  }

  std::string_view source_;
  const std::string& place_;
  size_t at_ = 0;
  std::string out_;
  size_t atom_ = 0;  // where in out_ the last thing that can be repeated begins
};

}  // namespace

std::string pcre_of_oniguruma(std::string_view expression, const std::string& place) { return Translation(expression, place).all(); }

}  // namespace fettle
