#include "cli/quantizing.h"

#include <algorithm>
#include <cmath>

#include "format/format.h"

namespace fettle {

void remark_if_larger(std::vector<std::string>& remarks, uint64_t bytes, uint64_t source_bytes) {
  if (bytes > source_bytes) remarks.push_back("larger than its source (" + format_bytes(double(source_bytes)) + ")");
}

QuantizeResult quantize_with_progress(const char* label, const fs::path& source, const fs::path& out, const QuantizeOptions& options,
                                      int threads) {
  Pool pool(threads);
  const uint64_t source_bytes = model_bytes(source);
  Progress progress(label, int64_t(source_bytes), "B");
  QuantizeResult result = quantize(source, out, options, pool, [&](uint64_t done, uint64_t total) {
    stop_if_interrupted();
    // with a size, weights are read twice; the bar knows the file's bytes
    progress.update(total ? int64_t(double(done) / double(total) * double(source_bytes)) : int64_t(done));
  });
  if (options.type != "F16" && options.type != "F32" && options.type != "BF16")
    remark_if_larger(result.remarks, result.bytes, source_bytes);
  progress.finish(format_bytes(double(result.bytes)));
  return result;
}

namespace {

// Weights that one core encodes in a second, as measured: floats are copied, eight bits rounded, fewer searched for.
double weights_per_second(const Format& f) { return f.group == 0 ? 8e7 : f.bits_per_weight() > 8 ? 3.5e7 : 1.2e7; }

}  // namespace

QuantizePlan plan_quantizing(const fs::path& source, const fs::path& out, const QuantizeOptions& options, int threads) {
  constexpr double kProgramBytes = 40e6, kTrials = 2;  // kTrials: times over the weights, to find types for a size
  QuantizePlan plan{plan_quantize(source, out, options), {}};
  const Gguf file = open_model_file(source);
  int64_t parameters = 0, largest = 0;
  for (const NamedTensor& t : file.tensors()) {
    parameters += t.tensor.shape.count();
    largest = std::max(largest, t.tensor.shape.count());
  }
  double rate = options.size_bytes > 0 ? 1.2e7 / kTrials : 8e7;
  for (const auto& [type, count] : plan.result.types)
    if (const Format* f = find_format(type)) rate = std::min(rate, weights_per_second(*f));
  // one tensor's weights as they are encoded: 8 bits and a scale at most
  plan.needs = {double(parameters) / rate / (threads > 0 ? threads : physical_cores()),
                kProgramBytes + double(file.file_bytes()) + 1.1 * double(largest), double(plan.result.bytes)};
  return plan;
}

Json quantize_json(const QuantizeResult& r) {
  Json types = Json::object(), substituted = Json::array();
  for (const auto& [name, count] : r.types) types[name] = count;
  for (const QuantizedTensor& t : r.tensors)
    if (t.asked != t.type) substituted.push_back({{"name", t.name}, {"asked", t.asked}, {"type", t.type}});
  return {
      {"bytes", r.bytes}, {"bits_per_weight", r.bits_per_weight}, {"types", types}, {"substituted", substituted}, {"remarks", r.remarks}};
}

std::vector<std::vector<int>> rows_of(const Model& model, const EvalData& data, int64_t most) {
  constexpr size_t kWindow = 512;  // tokens of plain text that make one row
  std::vector<std::vector<int>> rows;
  if (!data.plain) {
    ChatFormat format = model.chat_format();
    for (const Example& e : data.data.examples) {
      rows.push_back(format.train_row(e).ids);
      if (rows.back().size() > size_t(model.config.context)) rows.back().resize(size_t(model.config.context));
    }
    return rows;
  }
  std::vector<int> ids = model.tokenizer->encode(data.text);
  for (size_t at = 0; at < ids.size() && (most == 0 || int64_t(rows.size()) < most); at += kWindow)
    rows.emplace_back(ids.begin() + long(at), ids.begin() + long(std::min(at + kWindow, ids.size())));
  return rows;
}

bool is_imatrix(const std::string& data) {
  const std::string ending = lower(fs::path(data).extension().string());
  return ending == ".gguf" || ending == ".imatrix" || ending == ".dat";
}

MeasuredInputs measure_inputs(const std::string& data, const fs::path& path, int64_t most, const StageContext& context) {
  MeasuredInputs measured;
  if (is_imatrix(data)) {
    measured.importance = read_imatrix(data);
    const Gguf file = open_model_file(path);
    for (const ImportanceEntry& entry : measured.importance) {
      const Tensor* weight = file.find(entry.name);
      if (!weight || int64_t(entry.sum_squares.size()) % weight->shape.cols() != 0)
        throw refused(data,
                      "was measured on another model: its " + entry.name + " has " + std::to_string(entry.sum_squares.size()) +
                          " columns, this model's " + (weight ? weight->shape.text() : "is not there"),
                      "measure importance on this very model, or give examples");
    }
    const auto used = std::count_if(measured.importance.begin(), measured.importance.end(), [](const ImportanceEntry& e) {
      return e.tokens > 0 && std::any_of(e.sum_squares.begin(), e.sum_squares.end(), [](double s) { return s > 0; });
    });
    if (used == 0)
      throw refused(data, "says nothing: every count or sum in it is zero", "measure importance on this very model, or give examples");
    return measured;
  }
  auto model = Model::open(path);
  std::vector<std::vector<int>> rows = rows_of(*model, read_eval_data(data, true, most), most);
  Pool pool(context.threads);
  Progress progress("calibrate", int64_t(rows.size()), "rows");
  measured.calibration = std::make_unique<Calibration>(
      model, rows, pool,
      [&](size_t done, size_t total) {
        stop_if_interrupted();
        progress.update(int64_t(done * rows.size() / total));
      },
      Calibration::Limits{});
  progress.finish();
  measured.importance = measured.calibration->importance();
  for (const ImportanceEntry& e : measured.importance)
    if (!std::all_of(e.sum_squares.begin(), e.sum_squares.end(), [](double s) { return std::isfinite(s); })) throw model->why_not_finite();
  return measured;
}

std::string file_title(const std::string& model) {
  std::string title = model_title(model);
  std::replace_if(
      title.begin(), title.end(), [](char c) { return c == ':' || c == '/' || c == '@'; }, '-');
  return title;
}

}  // namespace fettle
