// Numbers and words as people write them. Locale-free: a decimal point is a point everywhere.
#include "base/units.h"

#include <sys/resource.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <memory>

namespace fettle {
namespace {

bool is_space(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == '\f' || c == '\v'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

// Takes a number off the front of `text`; nothing for signs, "inf" and "nan".
std::optional<double> take_number(std::string_view& text) {
  if (text.empty() || !(is_digit(text[0]) || text[0] == '.')) return {};
  double value = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value)) return {};
  text.remove_prefix(size_t(end - text.data()));
  return value;
}

std::string_view skip_spaces(std::string_view text) {
  while (!text.empty() && is_space(text[0])) text.remove_prefix(1);
  return text;
}

// Multiplier of a size's unit: "", B, k, kB, KiB, ... T, TiB in any case; 0 when there is no such unit.
uint64_t size_unit(std::string_view unit) {
  std::string u = lower(unit);
  if (u.empty() || u == "b" || u == "bytes" || u == "byte") return 1;
  size_t power = std::string_view("kmgt").find(u[0]);
  if (power == std::string_view::npos) return 0;
  std::string_view rest = std::string_view(u).substr(1);
  uint64_t base = rest == "i" || rest == "ib" ? 1024 : rest.empty() || rest == "b" ? 1000 : 0, value = base;
  for (size_t i = 0; i < power; i++) value *= base;
  return value;
}

struct TimeUnit {
  std::string_view name;
  double seconds;
};
constexpr TimeUnit kTimeUnits[] = {{"d", 86400},    {"day", 86400}, {"days", 86400}, {"h", 3600}, {"hour", 3600},
                                   {"hours", 3600}, {"min", 60},    {"m", 60},       {"s", 1},    {"sec", 1},
                                   {"ms", 1e-3},    {"us", 1e-6},   {"µs", 1e-6},    {"ns", 1e-9}};

std::string print(const char* format, double value) {
  char text[64];
  std::snprintf(text, sizeof text, format, value);
  return text;
}

// "98.4 M": one decimal above 1000, and 999.96 becomes 1.0 of the next.
std::string scaled(double value, const char* unit) {
  if (!std::isfinite(value)) return "?";
  static constexpr const char* kPrefixes[] = {"", "k", "M", "G", "T", "P"};
  int power = 0;
  while (std::abs(value) >= (power ? 999.95 : 999.5) && power < 5) value /= 1000, power++;
  bool whole = power == 0 && (*unit || value == std::round(value) || std::abs(value) >= 100);
  std::string text = print(whole ? "%.0f" : "%.1f", value);
  if (power || *unit) text += ' ';
  return text + kPrefixes[power] + unit;
}

// Damerau-Levenshtein (optimal string alignment): a swap of neighbours counts once.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); j++) row[j] = j;
  for (size_t i = 1; i <= a.size(); i++) {
    before.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); j++) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) row[j] = std::min(row[j], before[j - 2] + 1);
    }
  }
  return row[b.size()];
}

}  // namespace

std::optional<uint64_t> parse_bytes(std::string_view text) {
  text = trim(text);
  // whole numbers exactly, also above 2^53
  uint64_t whole = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), whole);
  std::string_view rest = text.substr(size_t(end - text.data()));
  bool fraction = !rest.empty() && (rest[0] == '.' || ((rest[0] == 'e' || rest[0] == 'E') && rest.size() > 1));
  if (error == std::errc() && !fraction) {
    uint64_t unit = size_unit(skip_spaces(rest)), bytes = 0;
    if (unit == 0 || __builtin_mul_overflow(whole, unit, &bytes)) return {};
    return bytes;
  }
  std::optional<double> value = take_number(text);
  uint64_t unit = value ? size_unit(skip_spaces(text)) : 0;
  if (unit == 0) return {};
  double bytes = std::round(*value * double(unit));
  if (!(bytes < 0x1p64)) return {};
  return uint64_t(bytes);
}

std::optional<double> parse_seconds(std::string_view text) {
  text = trim(text);
  if (text.empty()) return {};
  double total = 0, last_unit = INFINITY;
  while (!text.empty()) {
    std::optional<double> value = take_number(text);
    if (!value) return {};
    text = skip_spaces(text);
    size_t length = 0;
    while (length < text.size() && !is_digit(text[length]) && text[length] != '.' && !is_space(text[length])) length++;
    if (length == 0) {  // a bare number is seconds, but only alone
      if (!text.empty() || std::isfinite(last_unit)) return {};
      return value;
    }
    std::string name = lower(text.substr(0, length));
    const auto* unit = std::find_if(std::begin(kTimeUnits), std::end(kTimeUnits), [&](const TimeUnit& u) { return u.name == name; });
    if (unit == std::end(kTimeUnits) || unit->seconds >= last_unit) return {};
    last_unit = unit->seconds;
    total += *value * unit->seconds;
    text = skip_spaces(text.substr(length));
  }
  if (!std::isfinite(total)) return {};
  return total;
}

std::string format_bytes(double bytes) { return scaled(bytes, "B"); }

std::string format_count(double n) { return scaled(n, ""); }

std::string format_seconds(double seconds) {
  if (!std::isfinite(seconds)) return "?";
  if (seconds < 0) return "-" + format_seconds(-seconds);
  if (seconds == 0) return "0 s";
  if (seconds < 0.9995e-3) return print("%.3g us", seconds * 1e6);
  if (seconds < 0.9995) return print(seconds < 0.00995 ? "%.3g ms" : "%.0f ms", seconds * 1e3);
  if (seconds < 59.95) return print("%.1f s", seconds);
  auto pair = [](long long big, const char* big_unit, long long small, const char* small_unit) {
    char text[64];
    std::snprintf(text, sizeof text, "%lld %s %02lld %s", big, big_unit, small, small_unit);
    return std::string(text);
  };
  if (seconds > 1e15) return "?";
  long long s = std::llround(seconds), m = std::llround(seconds / 60), h = std::llround(seconds / 3600);
  if (s < 3600) return pair(s / 60, "min", s % 60, "s");
  if (m < 24 * 60) return pair(m / 60, "h", m % 60, "min");
  return pair(h / 24, "d", h % 24, "h");
}

std::vector<std::string> split(std::string_view text, char separator) {
  std::vector<std::string> parts;
  for (size_t at = 0;;) {
    size_t end = text.find(separator, at);
    parts.emplace_back(text.substr(at, end == text.npos ? text.npos : end - at));
    if (end == text.npos) return parts;
    at = end + 1;
  }
}

std::string_view trim(std::string_view text) {
  text = skip_spaces(text);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return result;
}

// Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above U+10FFFF.
std::string shell_quoted(const std::string& word) {
  const bool plain = !word.empty() && word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_@%+:,./-=") ==
                                          std::string::npos;
  if (plain) return word;
  std::string text = "'";
  for (char c : word) text += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return text + "'";
}

std::optional<std::string> did_you_mean(std::string_view word, const std::vector<std::string>& candidates) {
  size_t limit = std::max<size_t>(1, word.size() / 3), best = limit + 1;
  const std::string* found = nullptr;
  std::string wanted = lower(word);
  for (const std::string& candidate : candidates) {
    // the length alone may tell; it also keeps a hostile word from costing time
    if (candidate.size() > word.size() + limit || candidate.size() + limit < word.size()) continue;
    size_t distance = edit_distance(wanted, lower(candidate));
    if (distance >= best) continue;
    best = distance;
    found = &candidate;
  }
  if (!found) return {};
  return *found;
}

uint64_t peak_rss_bytes() {
  // VmHWM rather than getrusage: ru_maxrss is inherited from the program that started us
  if (std::unique_ptr<FILE, int (*)(FILE*)> status(std::fopen("/proc/self/status", "re"), std::fclose); status)
    for (char line[256]; std::fgets(line, sizeof line, status.get());)
      if (unsigned long long kib = 0; std::sscanf(line, "VmHWM: %llu kB", &kib) == 1) return kib * 1024;
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return uint64_t(usage.ru_maxrss) * 1024;
}

double now_seconds() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string utc_timestamp() {
  std::time_t now = std::time(nullptr);
  std::tm parts{};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

// RFC 9110, 5.6.7. Not strftime: its names of days follow the locale.
std::string http_date(int64_t unix_time) {
  static constexpr const char* kDays[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t time = unix_time;
  std::tm t{};
  ::gmtime_r(&time, &t);
  char text[64];
  std::snprintf(text, sizeof text, "%s, %02d %s %04d %02d:%02d:%02d GMT", kDays[t.tm_wday], t.tm_mday, kMonths[t.tm_mon], 1900 + t.tm_year,
                t.tm_hour, t.tm_min, t.tm_sec);
  return text;
}

}  // namespace fettle
