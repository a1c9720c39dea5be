// Ctrl-C and SIGTERM. The handler only sets a flag; whoever works long looks at it between steps.
#include <signal.h>
#include <unistd.h>

#include <atomic>

#include "base/error.h"
#include "base/progress.h"

namespace fettle {
namespace {

std::atomic<bool> asked{false};
static_assert(std::atomic<bool>::is_always_lock_free, "a signal handler may touch lock-free atomics only");

void on_signal(int) {
  if (asked.exchange(true)) ::_exit(int(Exit::interrupted));
}

// A mapped file that somebody cut short while it was read: the page is not there any more. Nothing can go on, but people may be told.
void on_bus_error(int) {
  constexpr char kText[] = "error: a file was made shorter while it was in use (a model?), or its disk failed\n";
  [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, kText, sizeof kText - 1);
  ::_exit(int(Exit::failed));
}

}  // namespace

void install_interrupt_handler() {
  struct sigaction action {};
  action.sa_handler = on_signal;
  sigemptyset(&action.sa_mask);
  // no SA_RESTART: a prompt that waits for a line shall return
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
  ::signal(SIGBUS, on_bus_error);
  // past `ulimit -f` a write shall fail and be reported like any other
  ::signal(SIGXFSZ, SIG_IGN);
}

bool interrupted() noexcept { return asked.load(std::memory_order_relaxed); }

void forget_interrupt() noexcept { asked.store(false, std::memory_order_relaxed); }

void stop_if_interrupted() {
  if (interrupted()) throw Error(Exit::interrupted, {}, "interrupted");
}

}  // namespace fettle
