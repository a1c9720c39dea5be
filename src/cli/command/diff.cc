// diff: two model files, tensor by tensor and key by key.
#include <cmath>
#include <cstring>
#include <map>

#include "cli/gguf_json.h"
#include "cli/model_use.h"
#include "cli/table.h"
#include "format/format.h"

namespace fettle {
namespace {

struct Arguments {
  std::string a, b;
};

// RMS of the difference of two tensors of one shape over the RMS of the first, on decoded weights.
double relative_difference(const Tensor& a, const Tensor& b) {
  double error = 0, norm = 0;
  int64_t columns = a.shape.cols(), rows = a.shape.rows();
  std::vector<float> x(static_cast<size_t>(columns)), y(x.size());
  for (int64_t r = 0; r < rows; r++) {
    a.format->decode(a.bytes.data() + r * a.format->bytes_for(columns), x.data(), columns);
    b.format->decode(b.bytes.data() + r * b.format->bytes_for(columns), y.data(), columns);
    for (size_t i = 0; i < x.size(); i++) {
      error += double(x[i] - y[i]) * double(x[i] - y[i]);
      norm += double(x[i]) * double(x[i]);
    }
  }
  return norm > 0 ? std::sqrt(error / norm) : error > 0 ? 1 : 0;
}

// A file's tensors; experts one by one where the other file does not have their stack.
std::vector<NamedTensor> tensors_beside(const Gguf& file, const Gguf& other) {
  std::vector<NamedTensor> tensors;
  for (const NamedTensor& t : file.tensors()) {
    const bool apart = t.tensor.shape.n == 3 && !other.find(t.name) && !expert_name(t.name, 0).empty();
    for (int e = 0; apart && e < t.tensor.shape.dim[0]; e++) tensors.push_back({expert_name(t.name, e), expert_of(t.tensor, e)});
    if (!apart) tensors.push_back(t);
  }
  return tensors;
}

std::map<std::string, const Tensor*> by_name(const std::vector<NamedTensor>& tensors) {
  std::map<std::string, const Tensor*> map;
  for (const NamedTensor& t : tensors) map[t.name] = &t.tensor;
  return map;
}

Json compare_tensors(const Gguf& a, const Gguf& b) {
  const std::vector<NamedTensor> before = tensors_beside(a, b), after = tensors_beside(b, a);
  const auto left = by_name(before), right = by_name(after);
  Json rows = Json::array();
  Progress progress("diff", int64_t(before.size()), "tensors");
  int64_t done = 0;
  for (const NamedTensor& t : before) {
    stop_if_interrupted();
    progress.update(++done);
    const auto found = right.find(t.name);
    const Tensor* other = found == right.end() ? nullptr : found->second;
    if (!other) {
      rows.push_back({{"name", t.name}, {"change", "removed"}});
      continue;
    }
    bool same_shape = t.tensor.shape == other->shape, same_type = t.tensor.format == other->format;
    if (same_shape && same_type && t.tensor.bytes.size() == other->bytes.size() &&
        std::memcmp(t.tensor.bytes.data(), other->bytes.data(), other->bytes.size()) == 0)
      continue;
    Json row = {{"name", t.name},
                {"change", !same_shape ? "shape"
                           : same_type ? "weights"
                                       : "type"},
                {"types", {t.tensor.format->name, other->format->name}},
                {"shapes", {t.tensor.shape.text(), other->shape.text()}}};
    if (same_shape) row["relative_difference"] = relative_difference(t.tensor, *other);
    rows.push_back(std::move(row));
  }
  for (const NamedTensor& t : after)
    if (!left.count(t.name)) rows.push_back({{"name", t.name}, {"change", "added"}});
  progress.finish();
  return rows;
}

Json compare_metadata(const Gguf& a, const Gguf& b) {
  Json rows = Json::array(), left = metadata_json(a, true), right = metadata_json(b, true);
  for (const auto& [key, value] : left.items()) {
    if (!right.contains(key))
      rows.push_back({{"key", key}, {"change", "removed"}});
    else if (right[key] != value)
      rows.push_back({{"key", key},
                      {"change", "value"},
                      {"values",
                       {one_line(value.dump(-1, ' ', false, Json::error_handler_t::replace), 60),
                        one_line(right[key].dump(-1, ' ', false, Json::error_handler_t::replace), 60)}}});
  }
  for (const auto& [key, value] : right.items())
    if (!left.contains(key)) rows.push_back({{"key", key}, {"change", "added"}});
  return rows;
}

Json diff(const Arguments& arguments, const Common& common) {
  const Gguf a = open_model_file(resolve_model(arguments.a, common.stage.offline)),
             b = open_model_file(resolve_model(arguments.b, common.stage.offline));
  Json tensors = compare_tensors(a, b), metadata = compare_metadata(a, b);
  bool identical = tensors.empty() && metadata.empty();
  return {{"models", {arguments.a, arguments.b}}, {"identical", identical}, {"tensors", tensors}, {"metadata", metadata}};
}

std::function<Json()> setup(Options& o, Common& common) {
  auto a = std::make_shared<Arguments>();
  o.add("MODEL", a->a, "a model's name, a GGUF file or a Hugging Face folder").require();
  o.add("OTHER", a->b, "another").require();
  return [a, &common] { return diff(*a, common); };
}

void print(const Json& d) {
  if (d["identical"]) std::puts("identical: every tensor and every key");
  Table tensors({"tensor", "change", "from", "to", "difference>"});
  for (const Json& t : d["tensors"]) {
    const char* which = t["change"] == "shape" ? "shapes" : "types";
    bool both = t.contains(which);
    tensors.row({t["name"], t["change"], both ? t[which][0] : "", both ? t[which][1] : "",
                 t.contains("relative_difference") ? percent(t["relative_difference"]) : ""});
  }
  tensors.print();
  Table metadata({"key", "change", "from", "to"});
  for (const Json& m : d["metadata"])
    metadata.row({m["key"], m["change"], m.contains("values") ? m["values"][0] : "", m.contains("values") ? m["values"][1] : ""});
  metadata.print();
}

}  // namespace

const Command command_diff = {"diff", "Files", "two model files, tensor by tensor", "fettle diff model.gguf model-q4.gguf", setup,
                              print,  false};

}  // namespace fettle
