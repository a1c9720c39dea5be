// Hand-written scanners for personal data, so that no text can make them slow. Card numbers must pass Luhn's check (ISO/IEC 7812-1), IBANs
// the remainder of 97 (ISO 13616); telephone numbers are told from other numbers by how they begin and are grouped, so bare runs of digits
// are left alone. Domains that nobody can own (RFC 2606) are no one's address. Not found: names, postal addresses, numbers in words.
#include "text/personal_data.h"

#include <algorithm>
#include <optional>

#include "base/base.h"

namespace fettle {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
bool is_alnum(char c) { return is_digit(c) || is_upper(c) || (c >= 'a' && c <= 'z'); }
// The character before `at`; a blank at the start.
char before(std::string_view text, size_t at) { return at ? text[at - 1] : ' '; }
char after(std::string_view text, size_t at) { return at < text.size() ? text[at] : ' '; }

std::string masked(std::string_view text, size_t head, size_t tail) {
  return std::string(text.substr(0, head)) + "..." + std::string(text.substr(text.size() - tail));
}

// ---- email ----

bool is_reserved_domain(std::string_view domain) {
  std::string name = lower(domain);
  for (const char* end : {".example", ".test", ".invalid", ".localhost", "example.com", "example.net", "example.org"}) {
    std::string_view reserved = end;
    if (!name.ends_with(reserved)) continue;
    if (reserved[0] == '.' || name.size() == reserved.size() || name[name.size() - reserved.size() - 1] == '.') return true;
  }
  return false;
}

std::optional<std::string> email_around(std::string_view text, size_t at_sign) {
  constexpr size_t kMaxLocal = 64, kMaxDomain = 253;
  auto in_local = [](char c) { return is_alnum(c) || std::string_view("._%+-").find(c) != std::string_view::npos; };
  size_t start = at_sign, end = at_sign + 1;
  while (start > 0 && at_sign - start <= kMaxLocal && in_local(text[start - 1])) start--;
  while (end < text.size() && end - at_sign <= kMaxDomain && (is_alnum(text[end]) || text[end] == '.' || text[end] == '-')) end++;
  while (end > at_sign + 1 && !is_alnum(text[end - 1])) end--;  // the full stop of a sentence
  std::string_view local = text.substr(start, at_sign - start), domain = text.substr(at_sign + 1, end - at_sign - 1);
  size_t dot = domain.rfind('.');
  if (local.empty() || local.size() > kMaxLocal || dot == domain.npos || dot == 0 || domain.size() - dot < 3) return {};
  if (std::any_of(domain.begin() + long(dot) + 1, domain.end(), is_digit) || is_reserved_domain(domain)) return {};
  return std::string(1, local[0]) + "...@" + std::string(domain);
}

std::optional<std::string> find_email(std::string_view text) {
  for (size_t at = text.find('@'); at != text.npos; at = text.find('@', at + 1))
    if (auto email = email_around(text, at)) return email;
  return {};
}

// ---- numbers ----

// Digits in groups, as in "+49 (151) 234-5678".
struct NumberRun {
  std::string_view text;
  bool plus = false, parentheses = false;
  std::string separators;           // one a gap
  std::vector<std::string> groups;  // never empty
  size_t n_digits = 0;
};

constexpr size_t kMaxRun = 64;

// The run that starts at `at`, a digit or one of "+(" before a digit.
NumberRun number_run(std::string_view text, size_t at) {
  NumberRun run;
  size_t start = at, end = at;
  std::string gap;
  for (; at < text.size() && at - start < kMaxRun; at++) {
    char c = text[at];
    if (is_digit(c)) {
      if (run.groups.empty() || !gap.empty()) {
        if (!run.groups.empty()) run.separators += gap.find_first_not_of(' ') == gap.npos ? ' ' : gap[gap.find_first_not_of(' ')];
        run.groups.emplace_back();
        gap.clear();
      }
      run.groups.back() += c;
      run.n_digits++;
      end = at + 1;
    } else if (std::string_view(" -./()+").find(c) != std::string_view::npos && gap.size() < 3 && (c != '+' || at == start)) {
      run.plus |= c == '+';
      run.parentheses |= c == '(';
      if (!run.groups.empty()) gap += c;
    } else {
      break;
    }
  }
  run.text = text.substr(start, end - start);
  return run;
}

bool passes_luhn(std::string_view digits) {
  int sum = 0;
  for (size_t i = 0; i < digits.size(); i++) {
    int d = digits[digits.size() - 1 - i] - '0';
    if (i % 2) d = d > 4 ? 2 * d - 9 : 2 * d;
    sum += d;
  }
  return sum % 10 == 0;
}

// Any neighbouring groups that are a card number; a date or a code may stand beside it.
std::optional<std::string> card_in(const NumberRun& run) {
  for (size_t first = 0; first < run.groups.size(); first++) {
    std::string digits;
    for (size_t last = first; last < run.groups.size() && digits.size() < 19; last++) {
      if (last > first && run.separators[last - 1] != ' ' && run.separators[last - 1] != '-') break;
      digits += run.groups[last];
      bool grouped = last == first || run.groups[first].size() == 4;
      bool varied = digits.find_first_not_of(digits[0]) != digits.npos;
      if (digits.size() >= 13 && digits.size() <= 19 && digits[0] >= '3' && digits[0] <= '6' && grouped && varied && passes_luhn(digits))
        return "..." + digits.substr(digits.size() - 4);
    }
  }
  return {};
}

bool looks_like_date(const NumberRun& run) {
  if (run.groups.size() < 3) return false;
  size_t a = run.groups[0].size(), b = run.groups[1].size(), c = run.groups[2].size();
  return (a <= 2 && b <= 2 && c == 4) || (a == 4 && b <= 2 && c <= 2) || (a <= 2 && b <= 2 && c <= 2);
}

std::optional<std::string> phone_in(const NumberRun& run) {
  const std::string& head = run.groups[0];
  bool zeros = head.size() > 2 && head.starts_with("00") && head[2] != '0' && run.n_digits >= 10;  // "0044 20 7946 0958"
  bool international = (run.plus || zeros) && run.n_digits >= 8 && run.n_digits <= 15;
  bool dotted = run.separators.find('.') != std::string::npos;
  // "020 7946 0958", "0151/2345678"
  bool national = head[0] == '0' && head.size() >= 2 && head.size() <= 6 && head[1] != '0' && run.groups.size() >= 2 &&
                  run.groups.size() <= 5 && !dotted && run.n_digits >= 9 && run.n_digits <= 12 && !looks_like_date(run);
  // "(555) 234-5678", "555-234-5678"
  bool american = run.groups.size() == 3 && run.groups[0].size() == 3 && run.groups[1].size() == 3 && run.groups[2].size() == 4 &&
                  (run.parentheses || run.separators == "--" || run.separators == "..");
  if (!international && !national && !american) return {};
  return masked(run.text, 3, 2);
}

void find_numbers(std::string_view text, std::vector<PersonalData>& found) {
  std::optional<std::string> card, phone;
  for (size_t at = 0; at < text.size(); at++) {
    bool opens = (text[at] == '+' || text[at] == '(') && is_digit(after(text, at + 1));
    char previous = before(text, at);
    if ((!opens && !is_digit(text[at])) || is_alnum(previous) || std::string_view("+(.-_/#").find(previous) != std::string_view::npos)
      continue;
    NumberRun run = number_run(text, at);
    bool in_word = is_alnum(after(text, at + run.text.size())) || static_cast<unsigned char>(previous) >= 0x80;
    at += run.text.size() - 1;
    if (in_word) continue;
    std::optional<std::string> a_card = card_in(run);
    if (!card) card = a_card;
    if (!phone && !a_card) phone = phone_in(run);
  }
  if (phone) found.push_back({"phone", "a telephone number", *phone});
  if (card) found.push_back({"card", "a payment card number", *card});
}

// ---- IBAN ----

bool passes_97(std::string_view iban) {
  unsigned remainder = 0;
  for (size_t i = 0; i < iban.size(); i++) {
    char c = iban[(i + 4) % iban.size()];  // the country and the check digits go to the end
    remainder = (is_digit(c) ? remainder * 10 + unsigned(c - '0') : remainder * 100 + unsigned(c - 'A' + 10)) % 97;
  }
  return remainder == 1;
}

// "DE89 3704 0044 0532 0130 00", with or without the blanks
std::optional<std::string> iban_at(std::string_view text, size_t at) {
  constexpr size_t kShortest = 15, kLongest = 34;
  std::string iban;
  for (size_t i = at; i < text.size() && iban.size() <= kLongest; i++) {
    char c = text[i];
    if (is_digit(c) || is_upper(c)) {
      iban += c;
      bool ends = !is_alnum(after(text, i + 1));
      if (ends && iban.size() >= kShortest && iban.size() <= kLongest && passes_97(iban)) return masked(iban, 2, 4);
    } else if (c != ' ' || iban.size() % 4 != 0) {
      return {};
    }
  }
  return {};
}

std::optional<std::string> find_iban(std::string_view text) {
  for (size_t at = 0; at + 4 <= text.size(); at++) {
    bool starts = is_upper(text[at]) && is_upper(text[at + 1]) && is_digit(text[at + 2]) && is_digit(text[at + 3]);
    if (!starts || is_alnum(before(text, at))) continue;
    if (auto iban = iban_at(text, at)) return iban;
  }
  return {};
}

// ---- keys ----

struct KeyShape {
  std::string_view start;
  size_t more;  // characters that must follow
};
constexpr KeyShape kKeyShapes[] = {{"sk-", 20},      {"AKIA", 16}, {"ASIA", 16},  {"ghp_", 30},      {"gho_", 30},   {"github_pat_", 22},
                                   {"hf_", 30},      {"AIza", 30}, {"xoxb-", 20}, {"xoxp-", 20},     {"glpat-", 18}, {"sk_live_", 16},
                                   {"rk_live_", 16}, {"npm_", 30}, {"SG.", 40},   {"eyJhbGciOi", 40}};

std::optional<std::string> find_key(std::string_view text) {
  if (size_t at = text.find("-----BEGIN "); at != text.npos && text.substr(at, 64).find("PRIVATE KEY-----") != text.npos)
    return "a private key (PEM)";
  for (const KeyShape& shape : kKeyShapes) {
    size_t end = 0;
    // What begins later in a run of key characters is no key either, so that the search goes on behind the run: no character is read twice.
    for (size_t at = text.find(shape.start); at != text.npos; at = text.find(shape.start, end)) {
      end = at + shape.start.size();
      if (is_alnum(before(text, at))) continue;
      bool digit = false;  // a word with hyphens is no key
      for (; end < text.size() && (is_alnum(text[end]) || text[end] == '_' || text[end] == '-' || text[end] == '.'); end++)
        digit |= is_digit(text[end]);
      if (digit && end - at >= shape.start.size() + shape.more) return std::string(shape.start) + "...";
    }
  }
  return {};
}

}  // namespace

std::vector<PersonalData> find_personal_data(std::string_view text) {
  std::vector<PersonalData> found;
  if (auto email = find_email(text)) found.push_back({"email", "an email address", *email});
  find_numbers(text, found);
  if (auto iban = find_iban(text)) found.push_back({"iban", "a bank account (IBAN)", *iban});
  if (auto key = find_key(text)) found.push_back({"key", "a secret key", *key});
  return found;
}

}  // namespace fettle
