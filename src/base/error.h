// What can go wrong, in three kinds (HACKING.md, "Errors"): Error for the outside, optional for expected absence, CHECK for bugs.
#pragma once
#include <stdexcept>
#include <string>
#include <utility>

namespace fettle {

// Exit codes of every command; programs outside the project read them.
enum class Exit { done = 0, failed = 1, usage = 2, refused = 3, gate = 4, interrupted = 130 };

// A problem of the outside world: a file, a row, a request, the network, memory. `place` is "file:row" or "model.gguf: tensor x";
// `hint` says how to mend it. Thrown at the doors, caught in main, per request and per job.
struct Error : std::runtime_error {
  Error(Exit code, std::string place, const std::string& message, std::string hint = {})
      : std::runtime_error(message), code(code), place(std::move(place)), hint(std::move(hint)) {}
  Exit code;
  std::string place;
  std::string hint;
  // "tickets.jsonl:318: row has no assistant turn"
  std::string text() const { return place.empty() ? what() : place + ": " + what(); }
};

inline Error refused(std::string place, const std::string& message, std::string hint = {}) {
  return {Exit::refused, std::move(place), message, std::move(hint)};
}
inline Error failed(std::string place, const std::string& message, std::string hint = {}) {
  return {Exit::failed, std::move(place), message, std::move(hint)};
}
inline Error usage(const std::string& message, std::string hint = {}) { return {Exit::usage, {}, message, std::move(hint)}; }

// Prints and aborts; never returns.
[[noreturn]] void check_failed(const char* file, int line, const char* condition, const char* message) noexcept;

}  // namespace fettle

// Always on. A failing CHECK is a bug of fettle, never of the user's.
#define CHECK(condition, ...)                                                 \
  do {                                                                        \
    if (!(condition)) [[unlikely]]                                            \
      ::fettle::check_failed(__FILE__, __LINE__, #condition, "" __VA_ARGS__); \
  } while (false)
