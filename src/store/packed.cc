// Which packing a configuration names, which tensors belong to it, and whole numbers as blocks. The idea: a checkpoint's weight is scale *
// (code - zero) with a whole zero, so that code - zero is a whole number of few bits more, and Q4_0, Q5_0 and Q8_0 hold it as it is (codes
// without zeros and those of up to 3 bits in Q4_0, of 4 bits with zeros in Q5_0), scales being f16 already or bf16 of a size that f16 has.
// Such weights run on the integer kernels exactly, and GGUF can store them without loss.
#include "store/packed.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>

#include "store/packing.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

int64_t element_bytes(const std::string& dtype) { return dtype == "F32" ? 4 : 2; }

// Whether every block of 32 columns lies in one group.
bool groups_fit_blocks(const IntegerWeights& w) {
  if (w.cols % 32) return false;
  for (int64_t c = 0; c < w.cols; c++)
    if (w.group_of[size_t(c)] != w.group_of[size_t(c / 32 * 32)]) return false;
  return true;
}

bool are_halves(const std::vector<float>& scales) {
  return std::ranges::all_of(scales, [](float s) { return float_from_half(half_from_float(s)) == s; });
}

const Format* narrowest_format(const IntegerWeights& w) {
  if (!groups_fit_blocks(w) || w.least < -128 || w.most > 127) return nullptr;
  if (!are_halves(w.scales)) return find_format("Q8_F32");
  if (w.least >= -8 && w.most <= 7) return find_format("Q4_0");
  return find_format(w.least >= -16 && w.most <= 15 ? "Q5_0" : "Q8_0");
}

// A row of blocks: the scale in front, the codes by the format's own hand.
void put_row(const IntegerWeights& w, const Format& f, int64_t row, const int16_t* values, std::byte* blocks) {
  std::vector<uint8_t> codes(static_cast<size_t>(w.cols));
  for (size_t c = 0; c < codes.size(); c++) codes[c] = uint8_t(values[c] + f.zero);
  for (int64_t c = 0; c < w.cols; c += f.block) {
    const float scale = w.scales[size_t(row * w.groups + w.group_of[size_t(c)])];
    const uint16_t half = half_from_float(scale);
    std::byte* block = blocks + f.bytes_for(c);
    f.scale_at == 0 ? std::memcpy(block, &half, 2) : std::memcpy(block, &scale, 4);
  }
  f.recode(blocks, w.cols, codes.data());
}

void put_decoded_row(const IntegerWeights& w, int64_t row, const int16_t* values, std::byte* out) {
  std::vector<float> weights(static_cast<size_t>(w.cols));
  for (size_t c = 0; c < weights.size(); c++) weights[c] = w.scales[size_t(row * w.groups + w.group_of[c])] * float(values[c]);
  w.stored->encode(weights.data(), out, w.cols, nullptr);
}

std::string method_of(const Json& config, const std::string& place) {
  if (!config.is_object()) throw refused(place, "quantization_config is not an object");
  // older folders have a file of their own for this, which names no method: quantize_config.json of GPTQ, quant_config.json of AWQ
  return config_text(config, {"quant_method"}, place).value_or(config.contains("w_bit") ? "awq" : "gptq");
}

std::unique_ptr<Packing> packing_of(const Json& config, const std::string& place) {
  const std::string method = method_of(config, place);
  if (method == "gptq") return gptq_packing(config, place);
  if (method == "awq") return awq_packing(config, place);
  if (method == "bitsandbytes") return bitsandbytes_packing(config, place);
  if (method == "compressed-tensors") return compressed_tensors_packing(config, place);
  throw refused(place, "its weights are packed by '" + printable(method, 40) + "', which is not read here",
                "GPTQ, AWQ, bitsandbytes and compressed-tensors are");
}

}  // namespace

std::optional<int64_t> config_integer(const Json& config, std::initializer_list<const char*> keys, const std::string& place) {
  for (const char* key : keys) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    if (!found->is_number_integer() || (found->is_number_unsigned() && found->get<uint64_t>() > uint64_t(INT64_MAX)))
      throw refused(place, std::string(key) + " of quantization_config is not a whole number: " + printable(found->dump(), 40));
    return found->get<int64_t>();
  }
  return {};
}

std::optional<std::string> config_text(const Json& config, std::initializer_list<const char*> keys, const std::string& place) {
  for (const char* key : keys) {
    const auto found = config.find(key);
    if (found == config.end() || found->is_null()) continue;
    if (!found->is_string())
      throw refused(place, std::string(key) + " of quantization_config is not a text: " + printable(found->dump(), 40));
    std::string text = found->get<std::string>();
    std::ranges::transform(text, text.begin(), [](unsigned char c) { return char(std::tolower(c)); });
    return text;
  }
  return {};
}

const RawTensor* ModuleParts::find(const std::string& part) const {
  const auto found = tensors_.find(module_ + "." + part);
  return found == tensors_.end() ? nullptr : found->second;
}

const RawTensor& ModuleParts::get(const std::string& part, std::initializer_list<std::string_view> dtypes,
                                  std::initializer_list<int64_t> shape) const {
  const RawTensor* tensor = find(part);
  if (!tensor) fail("has no tensor '" + part + "'", "the folder is not whole, or its configuration is another model's");
  if (std::ranges::find(dtypes, tensor->dtype) == dtypes.end())
    fail(part + " is of dtype " + tensor->dtype + ", expected " + std::string(*dtypes.begin()));
  bool fits = size_t(tensor->shape.n) == shape.size() && !tensor->bytes.empty();
  for (size_t i = 0; fits && i < shape.size(); i++) fits = shape.begin()[i] < 0 || tensor->shape.dim[i] == shape.begin()[i];
  if (!fits) {
    std::string wanted;
    for (int64_t d : shape) wanted += (wanted.empty() ? "" : " x ") + (d < 0 ? "any" : std::to_string(d));
    fail(part + " is " + tensor->shape.text() + ", expected " + wanted);
  }
  return *tensor;
}

std::vector<float> ModuleParts::floats(const RawTensor& tensor) const {
  const Format* f = find_format(tensor.dtype);
  if (!f || f->group) fail(tensor.name + " is of dtype " + tensor.dtype + ", expected floats");
  std::vector<float> values(tensor.bytes.size() / size_t(element_bytes(tensor.dtype)));
  f->decode(tensor.bytes.data(), values.data(), int64_t(values.size()));
  if (!std::ranges::all_of(values, [](float v) { return std::isfinite(v); }))
    fail(printable(tensor.name) + " holds a value that is not finite");
  return values;
}

std::vector<int64_t> ModuleParts::integers(const RawTensor& tensor) const {
  const size_t each = tensor.dtype == "I64" ? 8 : 4;
  std::vector<int64_t> values(tensor.bytes.size() / each);
  for (size_t i = 0; i < values.size(); i++) {
    if (each == 8)
      std::memcpy(&values[i], tensor.bytes.data() + i * 8, 8);
    else
      values[i] = int32_t(word_at(tensor.bytes.data(), int64_t(i)));
  }
  return values;
}

std::vector<int32_t> even_groups(int64_t cols, int64_t size) {
  std::vector<int32_t> group_of(static_cast<size_t>(cols));
  for (int64_t c = 0; c < cols; c++) group_of[size_t(c)] = int32_t(c / size);
  return group_of;
}

std::vector<float> transposed(const std::vector<float>& matrix, int64_t rows, int64_t cols) {
  std::vector<float> result(matrix.size());
  for (int64_t r = 0; r < rows; r++)
    for (int64_t c = 0; c < cols; c++) result[size_t(c * rows + r)] = matrix[size_t(r * cols + c)];
  return result;
}

OwnedTensor blocks_of(const IntegerWeights& w) {
  constexpr int64_t kRows = 32;  // at a time: where codes of one word are rows of the weight, each word is read once or twice
  const Format* f = narrowest_format(w);
  const Format& to = f ? *f : *w.stored;
  OwnedTensor result;
  const int64_t row_bytes = to.bytes_for(w.cols);
  result.bytes.resize(size_t(w.rows * row_bytes));
  std::vector<int16_t> values(size_t(std::min(kRows, w.rows) * w.cols));
  for (int64_t first = 0; first < w.rows; first += kRows) {
    const int64_t n = std::min(kRows, w.rows - first);
    w.values(first, n, values.data());
    for (int64_t r = 0; r < n; r++) {
      std::byte* out = result.bytes.data() + (first + r) * row_bytes;
      f ? put_row(w, to, first + r, values.data() + r * w.cols, out) : put_decoded_row(w, first + r, values.data() + r * w.cols, out);
    }
  }
  result.tensor = {&to, {w.rows, w.cols}, result.bytes};
  return result;
}

PackedWeights::PackedWeights(const Json& config, const RawTensors& tensors, const std::string& place)
    : packing_(packing_of(config, place)), tensors_(tensors), place_(place) {
  for (const auto& [name, tensor] : tensors_)
    for (const std::string& marker : packing_->markers())
      if (name.size() > marker.size() + 1 && name.ends_with("." + marker)) modules_.insert(name.substr(0, name.size() - marker.size() - 1));
  // what compressed-tensors says may be about the cache alone
  if (const std::string method = method_of(config, place); modules_.empty() && method != "compressed-tensors")
    throw refused(place, "its configuration says that weights are packed by " + method + ", but none of them is",
                  "where floats are meant, take quantization_config out of config.json");
  // how a cache of keys and values was to be rounded: it is kept finer here
  for (const auto& [name, tensor] : tensors_)
    if (name.ends_with(".k_scale") || name.ends_with(".v_scale") || name.ends_with(".q_scale")) owned_.insert(name);
  for (const std::string& module : modules_)
    for (const std::string& part : packing_->parts())
      if (tensors_.count(module + "." + part)) owned_.insert(module + "." + part);
}
PackedWeights::~PackedWeights() = default;
PackedWeights::PackedWeights(PackedWeights&&) noexcept = default;
PackedWeights& PackedWeights::operator=(PackedWeights&&) noexcept = default;

OwnedTensor PackedWeights::weight(const std::string& module) const {
  CHECK(modules_.count(module), "a module that is packed");
  return packing_->weight({tensors_, module, place_});
}

}  // namespace fettle
