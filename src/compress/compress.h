// Room compress: calibration and the methods that choose codes. A format says what codes mean (format/); a method is a caller of formats.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/model.h"

namespace fettle {

// Sum of squared inputs per column of every linear (and of the head), over the token rows, through the model's own forward.
std::vector<ImportanceEntry> collect_importance(Model& model, const std::vector<std::vector<int>>& rows, Pool& pool,
                                                const std::function<void(size_t)>& progress);

// A method chooses codes; the format says what they mean. One file each in method/.
struct Method {
  const char* name;  // "rtn", "weighted"
  const char* description;
  bool uses_importance;
  // n weights (whole blocks of one row) -> blocks; importance[n] or nullptr.
  void (*encode)(const Format& format, const float* weights, void* blocks, int64_t n, const float* importance);
};
std::span<const Method* const> methods();
const Method& find_method(const std::string& name);  // Error{usage} with a suggestion

// What may stand in QuantizeOptions::type: every format that fettle writes, and the mixes.
std::vector<std::string> quantize_types();

struct QuantizeOptions {
  std::string type = "Q4_K_M";  // a format's name, or a mix: Q4_K_M, Q5_K_M, Q3_K_M, Q2_K, ... (mixes follow the usual per-tensor rules)
  uint64_t size_bytes = 0;      // > 0: choose types per tensor so that the file is at most this large (type is ignored)
  std::map<std::string, std::string> overrides;  // part of a tensor name -> format name ("token_embd" -> "Q5_0")
  const std::vector<ImportanceEntry>* importance = nullptr;
  std::string method = "weighted";
  // The file that the source was trained from, if any: where `size_bytes` chooses, formats that would round the training away are left out.
  fs::path origin;
};

struct QuantizedTensor {
  std::string name, type, asked;  // asked != type: the row length does not fit, and the best 32-block format took its place
  uint64_t bytes = 0;
  double relative_error = 0;  // weighted RMS error / weighted RMS of the weights
};
struct QuantizeResult {
  uint64_t bytes = 0;
  double bits_per_weight = 0;
  std::map<std::string, int> types;
  std::vector<QuantizedTensor> tensors;
  std::vector<std::string> remarks;  // substitutions, said out loud
};

// Reads `source` tensor by tensor and writes `target` atomically. Norms and biases stay as they are, and so does, bit for bit, a tensor
// that has the wanted type already. Metadata is copied, file_type updated. progress counts source bytes (with size_bytes, twice: measuring,
// then writing). Error{usage}: unknown type or method, an override that matches nothing. Error{refused}: not a model, weights that are not
// finite, a size that no types reach, importance of another shape.
QuantizeResult quantize(const fs::path& source, const fs::path& target, const QuantizeOptions& options, Pool& pool,
                        const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& progress);

// base + adapter -> one file, tensor by tensor. type: format of the merged linears ("F16", "F32", "Q8_0", or "same": each tensor's own
// format). Returns the share of the adapter's update that the written weights hold: near 1, or far below where a coarse grid rounded it
// away. Error{refused}: the adapter does not fit; Error{usage}: rows that the type cannot hold.
double merge(Model& model, const LoraFile& lora, const fs::path& target, const std::string& type, Pool& pool);

}  // namespace fettle
