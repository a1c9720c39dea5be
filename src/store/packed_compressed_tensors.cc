// compressed-tensors (llm-compressor, vLLM), whole numbers. "pack-quantized": weight_packed I32 (out, words), codes + 2^(bits - 1) as one
// stream of bits a row, weight_shape I64 (2), weight_scale (out, groups), and where zeros are not all 0 weight_zero_point, packed the same
// way down the rows. "int-quantized" and "naive-quantized": weight I8 (out, in), weight_scale, weight_zero_point I8. Groups may be columns'
// (group_size), whole rows ("channel") or the whole matrix ("tensor"); weight_g_idx I32 (in) scatters them. weight = scale * (code - zero).
// How inputs were to be rounded is passed over: products here are at least as fine. Not read: floats of 4, 6 and 8 bits, blocks of rows,
// sparse layouts, layouts of marlin.
#include <algorithm>

#include "store/packing.h"
#include "store/pattern.h"

namespace fettle {
namespace {

using Json = nlohmann::json;

// What a group of the configuration says of the modules that it names.
struct Scheme {
  std::vector<std::string> names;  // of modules, or of classes of modules
  std::vector<Pattern> patterns;
  std::string format, problem;  // problem: why such weights are not read
  int bits = 0;
  int64_t group_size = -1;  // -1: whole rows
};

class CompressedTensors : public Packing {
 public:
  CompressedTensors(const Json& config, const std::string& place) {
    if (const auto sparse = config.find("sparsity_config"); sparse != config.end() && sparse->is_object() && !sparse->empty())
      if (const std::string format = config_text(*sparse, {"format"}, place).value_or("dense"); format != "dense")
        throw refused(place, "weights in the sparse layout '" + printable(format, 40) + "' are not read");
    const std::string format = config_text(config, {"format"}, place).value_or("pack-quantized");
    const auto groups = config.find("config_groups");
    if (groups == config.end() || !groups->is_object()) throw refused(place, "quantization_config has no config_groups");
    for (const auto& [name, group] : groups->items())
      schemes_.push_back(scheme_of(group, format, place + ": config_groups." + printable(name, 40)));
  }
  std::vector<std::string> markers() const override { return {"weight_packed", "weight_scale"}; }
  std::vector<std::string> parts() const override {
    return {"weight",           "weight_packed",      "weight_scale",        "weight_zero_point",
            "weight_shape",     "weight_g_idx",       "weight_global_scale", "input_scale",
            "input_zero_point", "input_global_scale", "output_scale",        "output_zero_point"};
  }

  OwnedTensor weight(const ModuleParts& m) const override {
    const Scheme& scheme = scheme_for(m);
    if (!scheme.problem.empty()) m.fail(scheme.problem);
    const RawTensor* packed = m.find("weight_packed");
    IntegerWeights w;
    if (packed) {
      const std::vector<int64_t> shape = m.integers(m.get("weight_shape", {"I64", "I32"}, {2}));
      w.rows = shape[0], w.cols = shape[1];
      if (w.rows < 1) m.fail("weight_shape says " + std::to_string(w.rows) + " rows");
      m.get("weight_packed", {"I32"}, {w.rows, -1});
    } else {
      packed = &m.get("weight", {"I8"}, {-1, -1});
      w.rows = packed->shape.dim[0], w.cols = packed->shape.dim[1];
    }
    const Codes codes(m, *packed, w.cols, scheme.bits);
    set_scales(m, w, scheme);
    const std::vector<int16_t> zero = zeros(m, w, scheme.bits);
    const auto [lowest, highest] = std::ranges::minmax(zero);
    const int top = codes.each < 0 ? 128 : 1 << (scheme.bits - 1);  // bytes may hold anything
    w.least = -top - highest, w.most = top - 1 - lowest;
    w.values = [&](int64_t first, int64_t n, int16_t* values) {
      for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < w.cols; c++)
          values[r * w.cols + c] = int16_t(codes.at(first + r, c) - zero[size_t((first + r) * w.groups + w.group_of[size_t(c)])]);
    };
    return blocks_of(w);
  }

 private:
  // Codes of rows, packed or bytes. Older files pack as many whole codes into a word as there is room for, and leave the rest.
  struct Codes {
    const std::byte* data;
    int64_t words;
    int bits, each;  // each: codes in a word, 0: they may straddle words, -1: bytes
    Codes(const ModuleParts& m, const RawTensor& t, int64_t cols, int bits)
        : data(t.bytes.data()), words(t.shape.dim[1]), bits(bits), each(-1) {
      if (t.dtype == "I8") return;
      each = 0;
      const bool possible = cols > 0 && cols <= (int64_t(1) << 40);
      if (possible && words == (cols * bits + 31) / 32) return;
      each = 32 / bits;
      if (!possible || words != (cols + each - 1) / each)
        m.fail(t.shape.text() + " words hold no rows of " + std::to_string(cols) + " codes of " + std::to_string(bits) + " bits");
    }
    int at(int64_t row, int64_t i) const {
      if (each < 0) return int8_t(data[row * words + i]);
      const std::byte* of_row = data + 4 * row * words;
      const uint32_t code = each == 0 ? bits_at(of_row, 1, i, bits) : bits_at(of_row + 4 * (i / each), 1, i % each, bits);
      return int(code) - (1 << (bits - 1));
    }
  };

  static Scheme scheme_of(const Json& group, const std::string& format, const std::string& place) {
    if (!group.is_object()) throw refused(place, "is not an object");
    Scheme s;
    s.format = config_text(group, {"format"}, place).value_or(format);
    const Json targets = group.value("targets", Json::array());
    if (!targets.is_array()) throw refused(place, "targets is not a list");
    for (const Json& target : targets) {
      if (!target.is_string()) throw refused(place, "targets is not a list of names");
      const std::string& text = target.get_ref<const std::string&>();
      if (text.starts_with("re:"))
        s.patterns.emplace_back("^(" + text.substr(3) + ")", place);
      else
        s.names.push_back(text);
    }
    const auto weights = group.find("weights");
    if (weights == group.end() || !weights->is_object()) {
      s.problem = "is packed, but its group of the configuration says nothing of weights";
      return s;
    }
    s.bits = int(config_integer(*weights, {"num_bits"}, place).value_or(8) & 0xff);
    const std::string type = config_text(*weights, {"type"}, place).value_or("int");
    const std::string strategy =
        config_text(*weights, {"strategy"}, place).value_or(weights->value("group_size", Json()).is_number() ? "group" : "tensor");
    if (s.format != "pack-quantized" && s.format != "int-quantized" && s.format != "naive-quantized" && s.format != "mixed-precision")
      s.problem = "the layout '" + printable(s.format, 40) + "' of compressed-tensors is not read";
    else if (type != "int")
      s.problem = "codes that are floats ('" + printable(type, 40) + "' of " + std::to_string(s.bits) + " bits) are not read";
    else if (s.bits < 1 || s.bits > 8)
      s.problem = "codes of " + std::to_string(s.bits) + " bits are not read";
    else if (strategy != "group" && strategy != "channel" && strategy != "tensor")
      s.problem = "scales by '" + printable(strategy, 40) + "' are not read; those by group, channel and tensor are";
    if (strategy == "group") {
      s.group_size = config_integer(*weights, {"group_size"}, place).value_or(0);
      if (s.problem.empty() && (s.group_size < 1 || s.group_size > INT32_MAX))
        throw refused(place, "group_size is " + std::to_string(s.group_size));
    }
    return s;
  }

  // By name before by pattern before by class, as the reference matches.
  const Scheme& scheme_for(const ModuleParts& m) const {
    for (const Scheme& s : schemes_)
      if (std::ranges::find(s.names, m.module()) != s.names.end()) return s;
    for (const Scheme& s : schemes_)
      for (const Pattern& p : s.patterns)
        if (p.matches(m.module())) return s;
    for (const Scheme& s : schemes_)
      if (std::ranges::find(s.names, "Linear") != s.names.end()) return s;
    m.fail("is packed, but no group of the configuration names it");
  }

  static void set_scales(const ModuleParts& m, IntegerWeights& w, const Scheme& scheme) {
    const RawTensor* found = m.find("weight_scale");
    const bool lone = found && found->shape.count() == 1 && found->shape.n <= 2;  // one for the whole matrix
    const RawTensor& scales = lone && found->shape.n == 0   ? m.get("weight_scale", {"BF16", "F16", "F32"}, {})
                              : lone && found->shape.n == 1 ? m.get("weight_scale", {"BF16", "F16", "F32"}, {1})
                                                            : m.get("weight_scale", {"BF16", "F16", "F32"}, {lone ? 1 : w.rows, -1});
    w.groups = lone ? 1 : scales.shape.dim[1];
    w.stored = find_format(scales.dtype);
    w.scales = m.floats(scales);
    if (lone) w.scales.assign(size_t(w.rows), w.scales[0]);
    if (m.find("weight_g_idx")) {
      for (int64_t g : m.integers(m.get("weight_g_idx", {"I32"}, {w.cols}))) {
        if (g < 0 || g >= w.groups) m.fail("weight_g_idx names group " + std::to_string(g) + " of " + std::to_string(w.groups));
        w.group_of.push_back(int32_t(g));
      }
      return;
    }
    const int64_t size = scheme.group_size < 0 ? w.cols : scheme.group_size;
    if ((w.cols + size - 1) / size != w.groups)
      m.fail("has scales of " + std::to_string(w.groups) + " groups; " + std::to_string(w.cols) + " inputs in groups of " +
             std::to_string(size) + " are another number");
    w.group_of = even_groups(w.cols, size);
  }

  // (rows, groups)
  static std::vector<int16_t> zeros(const ModuleParts& m, const IntegerWeights& w, int bits) {
    std::vector<int16_t> zero(size_t(w.rows * w.groups));
    const RawTensor* found = m.find("weight_zero_point");
    if (!found) return zero;
    if (found->dtype == "I32") {
      const RawTensor& packed = m.get("weight_zero_point", {"I32"}, {-1, w.groups});
      const int64_t words = packed.shape.dim[0];
      const int each = 32 / bits;
      const bool dense = words == (w.rows * bits + 31) / 32;
      if (!dense && words != (w.rows + each - 1) / each)
        m.fail("weight_zero_point is " + packed.shape.text() + ", in which its zeros do not fit");
      for (int64_t r = 0; r < w.rows; r++)
        for (int64_t g = 0; g < w.groups; g++) {
          const std::byte* column = packed.bytes.data() + 4 * g;
          const uint32_t code =
              dense ? bits_at(column, w.groups, r, bits) : bits_at(column + 4 * (r / each) * w.groups, w.groups, r % each, bits);
          zero[size_t(r * w.groups + g)] = int16_t(int(code) - (1 << (bits - 1)));
        }
      return zero;
    }
    const bool lone = found->shape.count() == 1;
    if (found->dtype != "I8" || (!lone && found->shape != Shape{w.rows, w.groups}) || found->bytes.empty())
      m.fail("weight_zero_point is " + found->dtype + " " + found->shape.text() + ", expected I8 " + Shape{w.rows, w.groups}.text());
    for (size_t i = 0; i < zero.size(); i++) zero[i] = int8_t(found->bytes[lone ? 0 : i]);
    return zero;
  }

  std::vector<Scheme> schemes_;
};

}  // namespace

std::unique_ptr<Packing> compressed_tensors_packing(const Json& config, const std::string& place) {
  return std::make_unique<CompressedTensors>(config, place);
}

}  // namespace fettle
