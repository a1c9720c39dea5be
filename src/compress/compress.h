// Room compress: calibration and the methods that choose codes. A format says what codes mean (format/); a method is a caller of formats.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "model/model.h"

namespace fettle {

// What the inputs of every linear (and of the head) look like over token rows, through the model's own forward.
class Calibration {
 public:
  struct Limits {
    int64_t tokens = 16384;              // rows are thinned out evenly to about this many
    uint64_t bytes = uint64_t(2) << 30;  // of covariances at a time; a request for another one measures again
  };
  // Measures. progress: rows done and rows in all. Error{refused}: no tokens, or tokens that the model has not.
  Calibration(std::shared_ptr<Model> model, const std::vector<std::vector<int>>& rows, Pool& pool,
              const std::function<void(size_t done, size_t total)>& progress, const Limits& limits);
  // Sums of squared inputs per column.
  std::vector<ImportanceEntry> importance() const;
  // X^T X of the named linear's inputs: (in, in), of which the upper triangle is filled. nullptr: no such linear, `in` is no multiple of
  // 16, or an expert's: few rows come to one, and there are too many. Lives until the next call.
  const float* covariance(const std::string& name, Pool& pool);

  struct Input {  // of the linears that share it
    int in = 0;
    std::vector<std::string> names;
    std::vector<double> sum_squares;
    double rows = 0;                // that came: of experts, fewer than tokens
    std::vector<float> covariance;  // empty: not at hand now
  };

 private:
  void forward(const std::vector<std::vector<int>>& rows, Tap& tap, Pool& pool, const std::function<void(size_t, size_t)>& progress);
  void pass(size_t first, bool squares, Pool& pool, const std::function<void(size_t, size_t)>& progress);
  std::shared_ptr<Model> model_;
  const Limits limits_;
  std::vector<std::vector<int>> rows_;
  double tokens_ = 0;
  std::vector<Input> inputs_;
};

class InputMetric;  // metric.h

// What a method knows of the tensor whose rows it encodes.
struct Encoding {
  const Format& format;
  int64_t cols;
  const float* importance;    // (cols), mean squared input; nullptr: not measured
  const InputMetric* metric;  // of the inputs' covariance; nullptr: not measured
  Pool& pool;                 // for products of matrices; a method is called inside a task, where they run in place
};

// A method chooses codes; the format says what they mean. One file each in method/.
struct Method {
  const char* name;  // "rtn", "weighted", "gptq"
  const char* description;
  bool uses_importance, uses_covariance;
  // Rows of cols weights -> blocks. A row's codes do not depend on the rows beside it.
  void (*encode)(const Encoding& encoding, const float* weights, int rows, std::byte* blocks);
};
// Each row by itself, as the format encodes it.
void encode_each(const Encoding& e, const float* weights, int rows, std::byte* blocks, const float* importance);
std::span<const Method* const> methods();
const Method& find_method(const std::string& name);  // Error{usage} with a suggestion

// What may stand in QuantizeOptions::type: every format that fettle writes, and the mixes.
std::vector<std::string> quantize_types();
// Error{usage}: none of these, and no other type that files are written in; one that is named nearly so is told.
void check_type(const std::string& type);

struct QuantizeOptions {
  std::string type = "Q4_K_M";  // a format's name, or a mix: Q4_K_M, Q5_K_M, Q3_K_M, Q2_K, ... (by the usual per-tensor rules), or "same"
  uint64_t size_bytes = 0;      // > 0: choose types per tensor so that the file is at most this large (type is ignored)
  std::map<std::string, std::string> overrides;  // part of a tensor name -> format name ("token_embd" -> "Q5_0")
  const std::vector<ImportanceEntry>* importance = nullptr;
  Calibration* calibration = nullptr;  // covariances as well; importance may be left out then
  std::string method;                  // empty: "gptq" where a calibration is at hand, else "weighted"
  // The file that the source was trained from, if any: where `size_bytes` chooses, formats that would round the training away are left out.
  fs::path origin;
};

struct QuantizedTensor {
  std::string name, type, asked;  // asked != type: the row length does not fit, and the best 32-block format took its place
  uint64_t bytes = 0;
  // RMS error / RMS, of the outputs on the calibration's inputs where these are at hand, else of the weights as importance weighs them.
  double relative_error = 0;
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
// then writing). Error{usage}: unknown type or method, a method that needs a calibration, an override that matches nothing. Error{refused}:
// not a model, weights that are not finite, a size that no types reach, importance of another shape.
QuantizeResult quantize(const fs::path& source, const fs::path& target, const QuantizeOptions& options, Pool& pool,
                        const std::function<void(uint64_t done_bytes, uint64_t total_bytes)>& progress);

// One tensor as blocks of a format that need not be a file's, by what the options say of methods and inputs (types and sizes do not
// matter). Error{refused} naming the tensor: weights that are not finite, importance of another shape.
std::vector<std::byte> encode_tensor(const NamedTensor& tensor, const Format& format, const QuantizeOptions& options, Pool& pool);

// What quantize() would make, found without reading a weight: bytes, bits_per_weight, and by type (not by size) types and remarks. Refuses
// what quantize() refuses before it reads one; that a method wants a calibration is not asked for.
QuantizeResult plan_quantize(const fs::path& source, const fs::path& target, const QuantizeOptions& options);

// Error{refused} where no mix of formats makes this file's tensors as small as `bytes`: known before anything is measured. (Metadata is not
// counted, so that quantize() may still find that it cannot.)
void require_reachable(const Gguf& file, uint64_t bytes);

// base + adapter -> one file, tensor by tensor. type: format of the merged linears ("F16", "F32", "Q8_0", or "same": each tensor's own
// format). Returns the share of the adapter's update that the written weights hold: near 1, or far below where a coarse grid rounded it
// away. Error{refused}: the adapter does not fit; Error{usage}: rows that the type cannot hold.
double merge(Model& model, const LoraFile& lora, const fs::path& target, const std::string& type, Pool& pool);
// Of the file that merge() would write, about; its errors.
uint64_t merged_bytes(Model& model, const LoraFile& lora, const std::string& type);

}  // namespace fettle
