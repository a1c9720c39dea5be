// Fork-join threads. The caller works too; helpers spin for some tens of microseconds after each job and then park, so that a token's two
// hundred short jobs cost no system calls and an idle server costs no processor time.
#pragma once
#include <cstdint>
#include <memory>
#include <type_traits>

namespace fettle {

class Pool {
 public:
  // threads <= 0: physical cores.
  explicit Pool(int threads = 0);
  ~Pool();
  int threads() const { return threads_; }
  // Calls f(i) once for each i in [0, tasks), on any thread; returns when all are done. f must not throw. Not re-entrant: a run() inside
  // a task runs its tasks in place. Results never depend on the thread count because what a task computes depends on i alone.
  template <class F>
  void run(int tasks, F&& f) {
    using Body = std::remove_reference_t<F>;
    run_erased(
        tasks, [](void* body, int i) { (*static_cast<Body*>(body))(i); }, const_cast<void*>(static_cast<const void*>(&f)));
  }

 private:
  void run_erased(int tasks, void (*call)(void*, int), void* body);
  struct State;
  std::unique_ptr<State> state_;
  int threads_ = 1;
};

int physical_cores();
uint64_t machine_memory();            // bytes, of the container where one sets a limit
uint64_t free_memory();               // bytes of it that can be had without swapping, as the system estimates
constexpr double kWattsPerCore = 10;  // a busy core with its share of cache and memory: for estimates of energy

}  // namespace fettle
