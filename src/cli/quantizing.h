// Private to cli: what quantize and convert share.
#pragma once
#include "cli/model_use.h"
#include "cli/plan.h"

namespace fettle {

// label: what the bar calls the work.
QuantizeResult quantize_with_progress(const char* label, const fs::path& source, const fs::path& out, const QuantizeOptions& options,
                                      int threads);
// What a document says of a file that was to be smaller than its source and is not; nothing where it is.
void remark_if_larger(std::vector<std::string>& remarks, uint64_t bytes, uint64_t source_bytes);
// What that would make and take; refuses what it would refuse before it reads a weight.
struct QuantizePlan {
  QuantizeResult result;
  Needs needs;
};
QuantizePlan plan_quantizing(const fs::path& source, const fs::path& out, const QuantizeOptions& options, int threads);
Json quantize_json(const QuantizeResult& result);  // bytes, bits_per_weight, types, substituted, remarks
bool is_imatrix(const std::string& data);          // by its ending: .gguf, .imatrix, .dat
// What is known of the inputs of the model at `path`: an imatrix file is read and gives importance alone; examples and text are run
// through the model.
struct MeasuredInputs {
  std::vector<ImportanceEntry> importance;
  std::unique_ptr<Calibration> calibration;
};
MeasuredInputs measure_inputs(const std::string& data, const fs::path& path, int64_t rows, const StageContext& context);
// Token rows of examples, or of plain text in windows; at most `most`, 0: all.
std::vector<std::vector<int>> rows_of(const Model& model, const EvalData& data, int64_t most);
// "tickets:3" -> "tickets-3": a MODEL argument as a file's name.
std::string file_title(const std::string& model);

}  // namespace fettle
