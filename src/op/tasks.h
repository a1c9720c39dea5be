// How operations cut their work into tasks. Private to the room.
#pragma once
#include <algorithm>
#include <cstdint>

#include "op/batch.h"

namespace fettle {

// Calls body(first, last) for stretches of rows; a stretch holds at least 8192 elements, so that small work stays on the caller.
template <class Body>
void by_rows(Pool& pool, int rows, int64_t cols, const Body& body) {
  const int each = int(std::max<int64_t>(1, 8192 / std::max<int64_t>(cols, 1)));
  pool.run((rows + each - 1) / each, [&](int i) { body(i * each, std::min(rows, (i + 1) * each)); });
}

// Several works as one list of tasks, which threads fork and join for once: body(work, i) for each i in [0, count(work)).
template <class Count, class Body>
void run_all(Run& run, size_t works, const Count& count, const Body& body) {
  const Arena::Mark mark = run.arena.mark();
  int *ends = run.arena.get<int>(works), tasks = 0;
  for (size_t i = 0; i < works; i++) ends[i] = tasks += count(i);
  run.pool.run(tasks, [&](int task) {
    const size_t work = size_t(std::upper_bound(ends, ends + works, task) - ends);
    body(work, work ? task - ends[work - 1] : task);
  });
  run.arena.release(mark);
}

}  // namespace fettle
