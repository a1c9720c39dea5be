// Packed weights against what the packages that pack them make of them (tests/golden/make_packed_golden.py), and packings that are broken.
#include "store/packed.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <nlohmann/json.hpp>

#include "format/format.h"

namespace fettle {
namespace {

using Json = nlohmann::json;
using Tensors = std::map<std::string, const RawTensor*>;

fs::path golden(const char* name) { return fs::path(FETTLE_SOURCE_DIR) / "tests/golden" / name; }

const Safetensors& golden_tensors() {
  static const Safetensors file(golden("packed.safetensors"));
  return file;
}

// The tensors of one module of the golden file.
Tensors tensors_of(const std::string& module) {
  Tensors tensors;
  for (const RawTensor& t : golden_tensors().raw())
    if (t.name.starts_with(module + ".")) tensors[t.name] = &t;
  return tensors;
}

Json cases() { return Json::parse(read_text(golden("packed.json"))); }
Json case_of(const std::string& module) {
  for (const Json& c : cases())
    if (c["module"] == module) return c;
  return {};
}

std::vector<float> decoded(const Tensor& t) {
  std::vector<float> weights(size_t(t.shape.count()));
  t.format->decode(t.bytes.data(), weights.data(), t.shape.count());
  return weights;
}

TEST(Packed, WeightsAreWhatThePackagesDecodeThemTo) {
  int checked = 0;
  for (const Json& c : cases()) {
    const std::string module = c["module"];
    const PackedWeights packed(c["config"], tensors_of(module), "folder");
    ASSERT_EQ(packed.modules(), std::set<std::string>{module});
    for (const auto& [name, tensor] : tensors_of(module)) EXPECT_TRUE(packed.owns(name)) << name;
    EXPECT_FALSE(packed.owns(module + ".bias"));
    const OwnedTensor w = packed.weight(module);
    EXPECT_EQ(w.tensor.format->name, c["format"].get<std::string>()) << module;
    ASSERT_EQ(w.tensor.shape, (Shape{c["shape"][0].get<int64_t>(), c["shape"][1].get<int64_t>()})) << module;
    ASSERT_EQ(int64_t(w.tensor.bytes.size()), w.tensor.format->bytes_for(w.tensor.shape.count()));
    const std::vector<float> weights = decoded(w.tensor);
    for (size_t i = 0; i < 4; i++) EXPECT_EQ(weights[i], c["first"][i].get<float>()) << module << " " << i;
    EXPECT_EQ(sha256_hex(std::as_bytes(std::span(weights))), c["sha256"].get<std::string>()) << module;
    checked++;
  }
  EXPECT_GE(checked, 33);
}

// A module of the golden file, to be broken: its tensors may be changed, its configuration too.
struct Broken {
  explicit Broken(const std::string& of) : module(of), config(case_of(of)["config"]) {
    for (const auto& [name, tensor] : tensors_of(of)) {
      bytes[name].assign(tensor->bytes.begin(), tensor->bytes.end());
      tensors[name] = *tensor;
      tensors[name].bytes = bytes[name];
    }
  }
  RawTensor& of(const std::string& part) { return tensors.at(module + "." + part); }
  template <class T>
  T* numbers(const std::string& part) {
    return reinterpret_cast<T*>(bytes.at(module + "." + part).data());
  }
  // What is said of it, "" when it reads.
  std::string complaint() const {
    Tensors all;
    for (const auto& [name, tensor] : tensors) all[name] = &tensor;
    try {
      const PackedWeights packed(config, all, "folder");
      for (const std::string& each : packed.modules()) (void)packed.weight(each);
      return "";
    } catch (const Error& e) {
      EXPECT_EQ(e.code, Exit::refused);
      EXPECT_NE(e.text().find("folder"), std::string::npos) << e.text();
      return e.text();
    }
  }
  std::string module;
  Json config;
  std::map<std::string, std::vector<std::byte>> bytes;
  std::map<std::string, RawTensor> tensors;
};

struct Fault {
  const char *module, *said;
  std::function<void(Broken&)> make;
};

void expect_faults(const std::vector<Fault>& faults) {
  for (const Fault& fault : faults) {
    Broken broken(fault.module);
    ASSERT_EQ(broken.complaint(), "") << fault.module << " is whole";
    fault.make(broken);
    EXPECT_NE(broken.complaint().find(fault.said), std::string::npos)
        << fault.module << ": " << broken.complaint() << "\nexpected: " << fault.said;
  }
}

void set_shape(RawTensor& t, Shape shape) { t.shape = shape; }

TEST(Packed, BrokenGptqIsRefused) {
  expect_faults({
      {"gptq4", "has no tensor 'scales'", [](Broken& b) { b.tensors.erase("gptq4.scales"); }},
      {"gptq4", "has no tensor 'qzeros'", [](Broken& b) { b.tensors.erase("gptq4.qzeros"); }},
      {"gptq4", "qweight is of dtype F32", [](Broken& b) { b.of("qweight").dtype = "F32"; }},
      {"gptq4", "qweight is 512", [](Broken& b) { set_shape(b.of("qweight"), {512}); }},
      {"gptq4", "scales is 32 x 2",
       [](Broken& b) {
         set_shape(b.of("scales"), {32, 2});
       }},
      {"gptq4", "another number", [](Broken& b) { b.tensors.erase("gptq4.g_idx"), b.config["group_size"] = 32; }},
      {"gptq4", "g_idx names group 2 of 2", [](Broken& b) { b.numbers<int32_t>("g_idx")[5] = 2; }},
      {"gptq4", "g_idx names group -1", [](Broken& b) { b.numbers<int32_t>("g_idx")[5] = -1; }},
      {"gptq4", "not finite", [](Broken& b) { b.numbers<uint16_t>("scales")[3] = 0x7c00; }},
      {"gptq4", "zeros of 8 bits", [](Broken& b) { b.config["bits"] = 8; }},
      {"gptq4", "of 5 bits are not read", [](Broken& b) { b.config["bits"] = 5; }},
      {"gptq4", "bits of quantization_config is not a whole number", [](Broken& b) { b.config["bits"] = "4"; }},
      {"gptq4", "bits of quantization_config is not a whole number", [](Broken& b) { b.config["bits"] = 1ull << 63; }},
      {"gptq4", "group_size is 0", [](Broken& b) { b.config["group_size"] = 0; }},
      {"gptq4", "layout 'marlin'", [](Broken& b) { b.config["checkpoint_format"] = "marlin"; }},
      {"gptq4", "packed in int16", [](Broken& b) { b.config["pack_dtype"] = "int16"; }},
      {"gptq4", "packed by 'aqlm'", [](Broken& b) { b.config["quant_method"] = "aqlm"; }},
      {"gptq4", "is not an object", [](Broken& b) { b.config = Json::array({1}); }},
      {"gptq3", "in which codes do not fit",
       [](Broken& b) {
         set_shape(b.of("qweight"), {11, 32});
         b.of("qweight").bytes = b.of("qweight").bytes.first(11 * 32 * 4);
       }},
  });
}

TEST(Packed, BrokenAwqIsRefused) {
  expect_faults({
      {"awq", "has no tensor 'qzeros'", [](Broken& b) { b.tensors.erase("awq.qzeros"); }},
      {"awq", "layout 'gemv_fast'", [](Broken& b) { b.config["version"] = "gemv_fast"; }},
      {"awq", "of 3 bits", [](Broken& b) { b.config["bits"] = 3; }},
      {"awq", "are 4", [](Broken& b) { b.config["group_size"] = 32; }},
      {"awq", "expected 2 x 4",
       [](Broken& b) {
         set_shape(b.of("qzeros"), {4, 2});
       }},
      {"awq", "not finite", [](Broken& b) { b.numbers<uint16_t>("scales")[0] = 0x7e01; }},
      {"awq_gemv", "groups", [](Broken& b) { b.config["group_size"] = 1; }},
  });
}

std::string state_name() { return "weight.quant_state.bitsandbytes__nf4"; }
void set_state(Broken& b, const char* key, const Json& value) {
  auto& bytes = b.bytes.at(b.module + "." + state_name());
  Json state = Json::parse(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  value.is_null() ? void(state.erase(key)) : void(state[key] = value);
  const std::string text = state.dump();
  bytes.resize(text.size());
  std::memcpy(bytes.data(), text.data(), text.size());
  b.of(state_name()).bytes = bytes;
  b.of(state_name()).shape = {int64_t(text.size())};
}

TEST(Packed, BrokenBitsandbytesIsRefused) {
  expect_faults({
      {"nf4", "has no tensor 'weight.quant_map'", [](Broken& b) { b.tensors.erase("nf4.weight.quant_map"); }},
      {"nf4", "quant_state", [](Broken& b) { b.tensors.erase("nf4." + state_name()); }},
      {"nf4", "weight has 0 bytes", [](Broken& b) { b.tensors.erase("nf4.weight"); }},
      {"nf4", "do not make",
       [](Broken& b) {
         set_state(b, "shape", {32, 127});
       }},
      {"nf4", "do not make",
       [](Broken& b) {
         set_state(b, "shape", {1ll << 40, 1ll << 40});
       }},
      {"nf4", "no whole number rows",
       [](Broken& b) {
         set_state(b, "shape", {-32, 128});
       }},
      {"nf4", "no shape of two", [](Broken& b) { set_state(b, "shape", {4096}); }},
      {"nf4", "no whole number blocksize", [](Broken& b) { set_state(b, "blocksize", 0); }},
      {"nf4", "weight.absmax is 64", [](Broken& b) { set_state(b, "blocksize", 32); }},
      {"nf4", "is not valid JSON", [](Broken& b) { b.bytes.at("nf4." + state_name())[0] = std::byte('x'); }},
      {"nf4", "not finite", [](Broken& b) { b.numbers<uint32_t>("weight.absmax")[1] = 0x7f800000; }},
      {"nf4_nested", "no number nested_offset", [](Broken& b) { set_state(b, "nested_offset", Json()); }},
      {"nf4_nested", "no number nested_offset", [](Broken& b) { set_state(b, "nested_offset", 1e300); }},
      {"nf4_nested", "weight.nested_absmax is 1", [](Broken& b) { set_state(b, "nested_blocksize", 16); }},
      {"nf4_nested", "has no tensor 'weight.nested_quant_map'", [](Broken& b) { b.tensors.erase("nf4_nested.weight.nested_quant_map"); }},
      {"nf4_nested", "a scale is not finite",
       [](Broken& b) {
         std::fill_n(b.numbers<float>("weight.nested_quant_map"), 256, 3e38f), b.numbers<float>("weight.nested_absmax")[0] = 3e38f;
       }},
      {"int8", "SCB is 32",
       [](Broken& b) {
         set_shape(b.of("weight"), {16, 256});
       }},
      {"int8", "laid out for a kernel", [](Broken& b) { b.numbers<uint8_t>("weight_format")[0] = 2; }},
      {"int8", "weight is of dtype U8", [](Broken& b) { b.of("weight").dtype = "U8"; }},
  });
}

// A table that is no format's is taken at its word.
TEST(Packed, OtherTablesOfSixteenValuesAreDecoded) {
  Broken b("nf4");
  b.numbers<float>("weight.quant_map")[3] = -0.5f;
  Tensors all;
  for (const auto& [name, tensor] : b.tensors) all[name] = &tensor;
  const OwnedTensor ours = PackedWeights(b.config, all, "folder").weight("nf4"),
                    plain = PackedWeights(b.config, tensors_of("nf4"), "folder").weight("nf4");
  EXPECT_EQ(std::string(ours.tensor.format->name), "F32");
  const std::vector<float> x = decoded(ours.tensor), y = decoded(plain.tensor);
  const float* scales = b.numbers<float>("weight.absmax");
  size_t changed = 0;
  for (size_t i = 0; i < x.size(); i++) {
    const float was = -0.39491748809814453f * scales[i / 64];
    ASSERT_EQ(x[i], y[i] == was ? -0.5f * scales[i / 64] : y[i]) << i;
    changed += y[i] == was;
  }
  EXPECT_GT(changed, 10u);
}

TEST(Packed, BrokenCompressedTensorsAreRefused) {
  const auto weights = [](Broken& b) -> Json& { return b.config["config_groups"]["group_0"]["weights"]; };
  expect_faults({
      {"packed4", "has no tensor 'weight_scale'", [](Broken& b) { b.tensors.erase("packed4.weight_scale"); }},
      {"packed4", "has no tensor 'weight_shape'", [](Broken& b) { b.tensors.erase("packed4.weight_shape"); }},
      {"packed4", "weight_packed is 32 x 16, expected 31", [](Broken& b) { b.numbers<int64_t>("weight_shape")[0] = 31; }},
      {"packed4", "weight_shape says -1 rows", [](Broken& b) { b.numbers<int64_t>("weight_shape")[0] = -1; }},
      {"packed4", "hold no rows of 129", [](Broken& b) { b.numbers<int64_t>("weight_shape")[1] = 129; }},
      {"packed4", "hold no rows of -5", [](Broken& b) { b.numbers<int64_t>("weight_shape")[1] = -5; }},
      {"packed4", "hold no rows of 9223372036854775807", [](Broken& b) { b.numbers<int64_t>("weight_shape")[1] = INT64_MAX; }},
      {"packed4", "another number", [&](Broken& b) { weights(b)["group_size"] = 64; }},
      {"packed4", "group_size is -3", [&](Broken& b) { weights(b)["group_size"] = -3; }},
      {"packed4", "codes of 99 bits", [&](Broken& b) { weights(b)["num_bits"] = 99; }},
      {"packed4", "'float' of 4 bits", [&](Broken& b) { weights(b)["type"] = "float"; }},
      {"packed4", "scales by 'block'", [&](Broken& b) { weights(b)["strategy"] = "block"; }},
      {"packed4", "layout 'marlin-24'", [](Broken& b) { b.config["format"] = "marlin-24"; }},
      {"packed4", "sparse layout",
       [](Broken& b) {
         b.config["sparsity_config"] = {{"format", "sparse-24-bitmask"}};
       }},
      {"packed4", "no group of the configuration names it", [](Broken& b) { b.config["config_groups"]["group_0"]["targets"] = {"other"}; }},
      {"packed4", "malformed", [](Broken& b) { b.config["config_groups"]["group_0"]["targets"] = {"re:("}; }},
      {"packed4", "has no config_groups", [](Broken& b) { b.config.erase("config_groups"); }},
      {"packed4_zeros", "weight_zero_point is",
       [](Broken& b) {
         set_shape(b.of("weight_zero_point"), {2, 8});
       }},
      {"packed4_scattered", "weight_g_idx names group 9", [](Broken& b) { b.numbers<int32_t>("weight_g_idx")[0] = 9; }},
      {"ints_rows", "weight_scale is 16 x 2",
       [](Broken& b) {
         set_shape(b.of("weight_scale"), {16, 2});
       }},
      {"ints_zeros", "weight_zero_point is",
       [](Broken& b) {
         set_shape(b.of("weight_zero_point"), {1, 32});
       }},
      {"ints_rows", "weight is of dtype F8_E4M3", [](Broken& b) { b.of("weight").dtype = "F8_E4M3"; }},
  });
}

// Modules may be named, or meant by a pattern, apart from their class.
TEST(Packed, ModulesOfCompressedTensorsFindTheirGroup) {
  Broken b("packed4");
  const Json right = b.config["config_groups"]["group_0"];
  Json wrong = right;
  wrong["weights"]["num_bits"] = 8;
  for (const char* target : {"packed4", "re:.*ed4$", "re:packed"}) {
    Json own = right;
    own["targets"] = {target};
    b.config["config_groups"] = {{"a", wrong}, {"b", own}};
    EXPECT_EQ(b.complaint(), "") << target;
  }
  Json own = right;
  own["targets"] = {"re:acked4"};
  b.config["config_groups"] = {{"a", wrong}, {"b", own}};
  EXPECT_NE(b.complaint(), "") << "patterns begin where names do";
}

// What is packed here reads back as it was: codes on a grid to the last bit, NF4 within what its scales are rounded by.
TEST(Packed, WhatIsWrittenReadsBack) {
  constexpr int kOut = 32, kIn = 256;
  Random random(3);
  std::vector<float> weights(kOut * kIn);
  for (float& w : weights) w = 0.02f * float(random.normal()) + 0.002f;
  struct Case {
    const char* kind;
    int bits, group;
  };
  for (const Case& c : {Case{"gptq", 2, 64},
                        {"gptq", 3, 32},
                        {"gptq", 3, 128},
                        {"gptq", 4, 128},
                        {"gptq", 8, 32},
                        {"awq", 4, 128},
                        {"awq", 4, 32},
                        {"nf4", 4, 64}}) {
    const auto packer = weight_packer(c.kind, c.bits, c.group);
    const Format& f = packer->format() ? *packer->format() : *find_format("F32");
    std::vector<std::byte> blocks(size_t(f.bytes_for(kOut * kIn)));
    f.encode(weights.data(), blocks.data(), kOut * kIn, nullptr);
    const Tensor tensor{&f, {kOut, kIn}, blocks};
    const auto bytes = packer->pack(tensor);
    const auto parts = packer->parts(tensor.shape);
    ASSERT_EQ(bytes.size(), parts.size());
    std::vector<RawTensor> raw;
    for (size_t i = 0; i < parts.size(); i++) {
      raw.push_back({"m." + parts[i].name, parts[i].dtype, parts[i].shape, bytes[i]});
      const int each = parts[i].dtype == "U8" ? 1 : parts[i].dtype == "F16" ? 2 : 4;
      ASSERT_EQ(int64_t(bytes[i].size()), parts[i].shape.count() * each) << c.kind << " " << parts[i].name;
    }
    Tensors all;
    for (const RawTensor& t : raw) all[t.name] = &t;
    const PackedWeights packed(packer->config(), all, "folder");
    const OwnedTensor back = packed.weight("m");
    const std::vector<float> x = decoded(tensor), y = decoded(back.tensor);
    ASSERT_EQ(x.size(), y.size());
    if (packer->format()) {
      EXPECT_EQ(x, y) << c.kind << " " << c.bits << " " << c.group;
      continue;
    }
    EXPECT_EQ(back.tensor.format, find_format("NF4"));
    double error = 0, size = 0;
    for (size_t i = 0; i < x.size(); i++) error += std::pow(x[i] - y[i], 2), size += std::pow(x[i], 2);
    EXPECT_LT(std::sqrt(error / size), 0.12);
  }
  EXPECT_THROW(weight_packer("gptq", 5, 32), Error);
  EXPECT_THROW(weight_packer("awq", 3, 32), Error);
  EXPECT_THROW(weight_packer("nf4", 4, 128), Error);
  EXPECT_THROW(weight_packer("gptq", 4, 128)->parts({32, 96}), Error);
  EXPECT_THROW(weight_packer("gptq", 4, 32)->parts({33, 96}), Error);
}

TEST(Packed, FoldersOfFloatsThatAreCalledPackedAreRefused) {
  const float one = 1;
  const RawTensor weight{"model.layers.0.mlp.up_proj.weight", "F32", {1, 1}, std::as_bytes(std::span(&one, 1))};
  const auto modules = [&](const Json& config) { return PackedWeights(config, {{weight.name, &weight}}, "folder").modules().size(); };
  for (const char* kind : {"gptq4", "awq", "nf4", "int8"}) EXPECT_THROW(modules(case_of(kind)["config"]), Error) << kind;
  EXPECT_EQ(modules({{"quant_method", "compressed-tensors"}, {"config_groups", Json::object()}}), 0u) << "it may round the cache alone";
}

}  // namespace
}  // namespace fettle
