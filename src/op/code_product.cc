// Products by the codes of integer panels, expanded to bf16 pairs where they are multiplied: for many rows, on machines whose tiles
// multiply bf16 in the time of bytes under a scale per 32 inputs.
// Measured on a core of Sapphire Rapids: a product of 16 x 16 x 32 takes 5.5 ns, 8 with operands out of the second-level cache, 11 where
// the sums of 512 rows go there and back every 288 inputs, which larger blocks of inputs or of registers did not better; expanding 512
// weights takes 24 ns. Few rows (an expert's) pay for memory: weights, rows and results are each used once, and half of the time is
// waiting.
#include <algorithm>

#include "op/kernels.h"
#include "op/panels.h"

namespace fettle {
namespace {

constexpr int kMostSums = 512 * 16, kMostInputs = 288, kTasks = 8;  // sums: rows by panels of a task, half a MiB

// Some panels of a product.
struct CodeTask {
  const PanelProduct* product;
  int first, last;
};

// A block of a task's inputs. All panels of the task meet it before the next block, so that the rows' part of it stays in the second-level
// cache; two panels at a time are expanded into the first-level cache and meet all rows there.
struct Block {
  const CodeTask* task;
  int at, inputs;

  const Panels& panels() const { return *task->product->panels; }
  const uint8_t* codes(int panel) const {
    return panels().memory.get() + panels().layout.panel_bytes(at) + panel * panels().panel_stride();
  }
  const std::byte* rows() const { return task->product->a.data + int64_t(at) * 2 * kernels().pair_rows; }
  bool last() const { return at + inputs == panels().inputs; }
};

// As many inputs as make their sums worth the way.
int block_inputs(const Panels& p) {
  const int unit = std::max(p.layout.unit(), 32), blocks = (p.inputs + kMostInputs - 1) / kMostInputs;
  return std::min((p.inputs / unit + blocks - 1) / blocks, kMostInputs / unit) * unit;
}

Block first_block(const CodeTask& task) { return {&task, 0, block_inputs(*task.product->panels)}; }

// The codes of two panels of a block.
Ahead codes_ahead(const Block& b, int panel) {
  return {reinterpret_cast<const std::byte*>(b.codes(panel)), b.panels().panel_stride(),
          int((b.panels().layout.panel_bytes(b.inputs) + 63) / 64), std::min(2, b.task->last - panel)};
}

// Share `part` of `parts` of the rows' part of a block.
Ahead rows_ahead(const Block& b, int part, int parts) {
  const PairRows& a = b.task->product->a;
  const int group = kernels().pair_rows, lines = (b.inputs * 2 * group + 63) / 64, each = (lines + parts - 1) / parts;
  const int from = std::min(part * each, lines);
  return {b.rows() + int64_t(from) * 64, a.stride * group * kernels().pair_bytes, std::min(each, lines - from),
          (a.rows + group - 1) / group};
}

// then: the block that this thread multiplies next, if any.
void multiply_block(const Block& b, const Block* then, uint32_t* pairs, float* sums, int64_t sum_row) {
  const auto& [a, unused, c] = *b.task->product;
  const Panels& p = b.panels();
  const int64_t panel = int64_t(b.inputs) / 2 * 16;
  const bool other_rows = then && then->rows() != b.rows();
  const int parts = (b.task->last - b.task->first + 1) / 2;
  for (int part = 0; part < parts; part++) {
    const int q = b.task->first + 2 * part, both = std::min(2, b.task->last - q), column = 2 * part * 16;
    for (int i = 0; i < both; i++)
      kernels().codes_to_pairs(
          {p.layout, b.codes(q + i), p.row_factors.get() + (q + i) * 16, b.inputs / p.layout.group, pairs + i * panel});
    GemmBf16 g{b.rows(),
               a.stride,
               pairs,
               panel,
               b.at > 0 ? sums + column : nullptr,
               sum_row,
               b.last() ? c + q * 16 : sums + column,
               b.last() ? p.outputs : sum_row,
               a.rows,
               std::min(p.outputs - q * 16, both * 16),
               b.inputs / 2};
    if (part + 1 < parts)
      g.ahead[0] = codes_ahead(b, q + 2);
    else if (then)
      g.ahead[0] = codes_ahead(*then, then->task->first);
    if (other_rows) g.ahead[1] = rows_ahead(*then, part, parts);
    kernels().gemm_bf16(g);
  }
}

}  // namespace

void multiply_codes(Run& run, std::span<const PanelProduct> products) {
  int all = 0;
  for (const PanelProduct& p : products) all += p.a.rows ? p.panels->panels() : 0;
  CodeTask* list = run.arena.get<CodeTask>(size_t(all));
  int tasks = 0;
  for (const PanelProduct& p : products) {
    if (p.a.rows == 0) continue;
    const int panels = p.panels->panels(), each = std::clamp(std::min(all / kTasks, kMostSums / p.a.rows) / 2 * 2, 2, panels + 1);
    for (int first = 0; first < panels; first += each) list[tasks++] = {&p, first, std::min(first + each, panels)};
  }
  run.pool.run(tasks, [&](int i) {
    const Panels& p = *list[i].product->panels;
    // Sums between two blocks of inputs have a matrix of their own: c's rows may be a power of two apart.
    const int64_t sum_row = ((list[i].last - list[i].first) | 1) * 16, sums_at = int64_t(kMostInputs) * 16 * 4;
    uint8_t* scratch = thread_scratch(size_t(sums_at + list[i].product->a.rows * sum_row * 4));
    const int next = i + run.pool.threads();  // about the task that this thread will take
    const Block after = next < tasks ? first_block(list[next]) : Block{};
    const Bf16Products products_here;
    for (Block b = first_block(list[i]), then;; b = then) {
      b.inputs = std::min(b.inputs, p.inputs - b.at);
      then = b.last() ? after : Block{b.task, b.at + b.inputs, std::min(b.inputs, p.inputs - b.at - b.inputs)};
      multiply_block(b, then.task ? &then : nullptr, reinterpret_cast<uint32_t*>(scratch), reinterpret_cast<float*>(scratch + sums_at),
                     sum_row);
      if (b.last()) break;
    }
  });
}

}  // namespace fettle
