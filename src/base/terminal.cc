// What fettle says on stderr, one whole line per write so that lines of threads do not mix.
#include "base/terminal.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "base/progress.h"
#include "base/units.h"
#include "base/utf8.h"

namespace fettle {
namespace {

struct Screen {
  std::mutex mutex;
  bool live = false;  // the cursor stands at the end of a live line
};

Screen& screen() {
  static Screen instance;
  return instance;
}

// stderr gone or full: there is nobody to tell
void put(std::string_view text) {
  while (!text.empty()) {
    ssize_t n = ::write(STDERR_FILENO, text.data(), text.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return;
    text.remove_prefix(size_t(n));
  }
}

size_t columns() {
  winsize size{};
  return ::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

// The first `width` code points.
std::string_view clip(std::string_view text, size_t width) {
  size_t at = 0;
  while (at < text.size()) {
    if ((text[at] & 0xC0) != 0x80 && width-- == 0) break;
    at++;
  }
  return text.substr(0, at);
}

void tell(const char* kind, const char* colour, std::string_view line) {
  if (talk().progress_json) {
    nlohmann::ordered_json row{{kind, std::string(line)}};
    return print_line(row.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace));
  }
  if (talk().quiet) return;
  if (!*colour) return print_line(harmless(line));
  print_line((talk().colour ? colour + std::string(kind) + ":\033[0m " : std::string(kind) + ": ").append(harmless(line)));
}

}  // namespace

Talk& talk() {
  static Talk instance;
  return instance;
}

void print_line(std::string_view line) {
  std::string text;
  std::lock_guard lock(screen().mutex);
  if (std::exchange(screen().live, false)) text = "\r\033[K";
  put(text.append(line).append("\n"));
}

void print_live(std::string_view line) {
  std::string text = "\r";
  // the last column stays free: some terminals wrap as soon as it is written
  text.append(clip(line, columns() - 1)).append("\033[K");
  std::lock_guard lock(screen().mutex);
  screen().live = true;
  put(text);
}

void clear_live() {
  std::lock_guard lock(screen().mutex);
  if (std::exchange(screen().live, false)) put("\r\033[K");
}

bool shows_unicode() {
  for (const char* name : {"LC_ALL", "LC_CTYPE", "LANG"})
    if (const char* value = std::getenv(name); value && *value) {
      std::string text = lower(value);
      return text.find("utf-8") != text.npos || text.find("utf8") != text.npos;
    }
  return false;
}

std::string harmless(std::string_view text, size_t most) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string out;
  for (size_t at = 0; at < text.size();) {
    if (at >= most) return out + " ... (" + std::to_string(text.size()) + " bytes)";
    const auto [value, n] = decode_character(text.substr(at));
    const bool control = (value < 0x20 && value != '\n' && value != '\t') || (value >= 0x7F && value < 0xA0);
    const bool turns = (value >= 0x2028 && value <= 0x202E) || (value >= 0x2066 && value <= 0x2069);  // lines, or the direction of text
    if (value != kInvalidByte && !control && !turns) {
      out += text.substr(at, n);
    } else {
      for (const char c : text.substr(at, n)) ((out += "\\x") += kHex[uint8_t(c) >> 4]) += kHex[uint8_t(c) & 15];
    }
    at += n;
  }
  return out;
}

bool reader_left() {
  pollfd out{STDOUT_FILENO, POLLOUT, 0};
  return ::poll(&out, 1, 0) > 0 && (out.revents & (POLLERR | POLLHUP));
}

void say(std::string_view line) { tell("say", "", line); }
void warn(std::string_view line) { tell("warning", "\033[33m", line); }
void hint(std::string_view line) { tell("hint", "\033[36m", line); }

}  // namespace fettle
