// The thread pool. One 64-bit ticket = generation << 32 | tasks not yet taken; a task is taken by a compare-and-swap on it. The
// generation makes a late helper's swap fail when its job is over, so nobody has to wait for helpers that never came: on a busy machine the
// caller does the tasks of a descheduled helper itself. Job fields are read before the swap and are valid if it succeeds, because
// a job with an untaken task cannot have ended.
// A helper without work spins, then yields, then parks on a condition variable; run() wakes parked helpers only when it has tasks for
// them. ThreadSanitizer follows all of it: seq_cst operations, no fences.
#include "base/pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "base/error.h"
#include "base/progress.h"

namespace fettle {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kSpin = std::chrono::microseconds(50);
constexpr auto kCrowdedSpin = std::chrono::microseconds(2);
constexpr int kPausesPerLook = 16;  // pauses between two looks at the clock
constexpr int kYields = 32;         // a helper parks after so many

thread_local bool inside_task = false;

inline void pause() {
#if defined(__x86_64__) || defined(__i386__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb" ::: "memory");
#else
  asm volatile("" ::: "memory");
#endif
}

// Spins until ready() or the time is over; says which.
template <class Ready>
bool spin(std::chrono::nanoseconds time, Ready ready) {
  // the clock is read only after the first burst: a job that is already there costs nothing
  for (int i = 0; i < kPausesPerLook; i++, pause())
    if (ready()) return true;
  for (auto end = Clock::now() + time; Clock::now() < end;)
    for (int i = 0; i < kPausesPerLook; i++, pause())
      if (ready()) return true;
  return ready();
}

int processors() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  return ::sched_getaffinity(0, sizeof allowed, &allowed) == 0 ? CPU_COUNT(&allowed) : int(std::thread::hardware_concurrency());
}

void run_here(int tasks, void (*call)(void*, int), void* body) noexcept {
  for (int i = 0; i < tasks; i++) call(body, i);
}

}  // namespace

struct Pool::State {
  // what the caller writes and helpers watch
  alignas(64) std::atomic<uint64_t> ticket{0};
  std::atomic<void (*)(void*, int)> call{nullptr};
  std::atomic<void*> body{nullptr};
  std::atomic<int> tasks{0};
  // what helpers write and the caller watches
  alignas(64) std::atomic<int> finished{0};
  // parking
  alignas(64) std::atomic<int> parked{0};  // helpers asleep that nobody has yet decided to wake; changed under the mutex
  std::mutex mutex;
  std::condition_variable wake;
  int wakes = 0;  // decided, not yet taken up
  std::atomic<bool> stop{false};
  std::atomic<bool> busy{false};
  std::chrono::nanoseconds spin_time = kSpin;
  std::vector<std::thread> helpers;

  bool work_waits() const { return uint32_t(ticket.load(std::memory_order_acquire)) != 0; }

  // Takes tasks until none is left.
  void work() noexcept {
    int ran = 0;
    uint64_t now = ticket.load(std::memory_order_acquire);
    while (uint32_t(now) != 0) {
      auto* job = call.load(std::memory_order_relaxed);
      void* data = body.load(std::memory_order_relaxed);
      int index = tasks.load(std::memory_order_relaxed) - int(uint32_t(now));
      if (!ticket.compare_exchange_weak(now, now - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
      job(data, index);
      ran++;
      now = ticket.load(std::memory_order_acquire);
    }
    // one report for all: the job cannot end before it, so the tasks above were all of one job
    if (ran) finished.fetch_add(ran, std::memory_order_release);
  }

  void park() {
    std::unique_lock lock(mutex);
    parked.fetch_add(1);
    // seq_cst on both sides: either run() sees us parked or we see its ticket
    if (uint32_t(ticket.load()) != 0 || stop.load()) {
      parked.fetch_sub(1);
      return;
    }
    wake.wait(lock, [&] { return wakes > 0 || stop.load(); });
    if (wakes > 0) wakes--;
  }

  void help() {
    inside_task = true;
    while (!stop.load(std::memory_order_acquire)) {
      auto ready = [&] { return work_waits() || stop.load(std::memory_order_relaxed); };
      bool found = spin(spin_time, ready);
      for (int i = 0; i < kYields && !found; i++) {
        ::sched_yield();
        found = ready();
      }
      if (found)
        work();
      else
        park();
    }
  }

  // Wakes as many parked helpers as the job could use beyond those awake.
  void wake_for(int wanted) {
    int asleep = parked.load();
    if (asleep == 0 || wanted <= int(helpers.size()) - asleep) return;
    std::lock_guard lock(mutex);
    int count = std::min(parked.load(), wanted - (int(helpers.size()) - parked.load()));
    if (count <= 0) return;
    parked.fetch_sub(count);
    wakes += count;
    for (int i = 0; i < count; i++) wake.notify_one();
  }
};

Pool::Pool(int threads) : state_(std::make_unique<State>()) {
  threads_ = std::max(1, threads > 0 ? threads : physical_cores());
  if (threads_ > processors()) state_->spin_time = kCrowdedSpin;
  // signals belong to the thread that started us
  sigset_t all, before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    for (int i = 1; i < threads_; i++) state_->helpers.emplace_back([state = state_.get()] { state->help(); });
  } catch (const std::system_error&) {
    threads_ = int(state_->helpers.size()) + 1;
    warn("the system allows only " + std::to_string(threads_) + " threads");
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

Pool::~Pool() {
  {
    std::lock_guard lock(state_->mutex);
    state_->stop.store(true);
  }
  state_->wake.notify_all();
  for (std::thread& helper : state_->helpers) helper.join();
}

void Pool::run_erased(int tasks, void (*call)(void*, int), void* body) {
  State& s = *state_;
  // a second caller at the same time does its job alone rather than wait
  if (tasks <= 1 || threads_ == 1 || inside_task || s.busy.exchange(true, std::memory_order_acquire)) return run_here(tasks, call, body);
  inside_task = true;
  s.call.store(call, std::memory_order_relaxed);
  s.body.store(body, std::memory_order_relaxed);
  s.tasks.store(tasks, std::memory_order_relaxed);
  s.finished.store(0, std::memory_order_relaxed);
  uint64_t generation = (s.ticket.load(std::memory_order_relaxed) >> 32) + 1;
  s.ticket.store(generation << 32 | uint32_t(tasks));
  s.wake_for(tasks - 1);
  s.work();
  auto done = [&] { return s.finished.load(std::memory_order_acquire) == tasks; };
  if (!spin(s.spin_time, done))
    while (!done()) ::sched_yield();
  inside_task = false;
  s.busy.store(false, std::memory_order_release);
}

}  // namespace fettle
