// CHECK's last words. Plain stdio, no allocation: the heap may be what broke.
#include "base/error.h"

#include <cstdio>
#include <cstdlib>

namespace fettle {

void check_failed(const char* file, int line, const char* condition, const char* message) noexcept {
  // the newline first: a live progress line may be standing there
  std::fprintf(stderr, "\n%s:%d: CHECK failed: %s%s%s\nThis is a bug of fettle %s; please report it with these lines.\n", file, line,
               condition, *message ? ": " : "", message, FETTLE_VERSION);
  std::fflush(stderr);
  std::abort();
}

}  // namespace fettle
