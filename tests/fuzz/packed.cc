// Packed weights: a module of the golden file (the first byte says which, by name), a configuration (text up to a NUL) and changes to the
// module's tensors, six bytes each: which tensor, what is changed, and a number.
#include "store/packed.h"

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>

#include "format/format.h"
#include "fuzz.h"

namespace fettle {
namespace {

const Safetensors& golden() {
  static const Safetensors file([] {
    const char* folder = std::getenv("FETTLE_GOLDEN");
    return fs::path(folder ? folder : "tests/golden") / "packed.safetensors";
  }());
  return file;
}

struct Changed {
  RawTensor tensor;
  std::vector<std::byte> bytes;  // its own: a read behind them is found
};

void change(Changed& t, uint8_t what, uint32_t number) {
  static const char* const kDtypes[] = {"I32", "U8", "I8", "F16", "BF16", "F32", "I64", "F8_E4M3"};
  if (what % 4 == 0) t.tensor.dtype = kDtypes[number % 8];
  if (what % 4 == 1) t.bytes[number / 256 % t.bytes.size()] = std::byte(number % 256);
  if (what % 4 == 2 && t.tensor.shape.n) t.tensor.shape.dim[what / 4 % t.tensor.shape.n] = int64_t(number % 1024);
  if (what % 4 == 3) t.tensor.shape.n = int(number % 5);
}

int64_t bits_of(const std::string& dtype) { return dtype == "I64" ? 64 : dtype.ends_with("32") ? 32 : dtype.ends_with("16") ? 16 : 8; }

void read(const uint8_t* data, size_t size) {
  std::set<std::string> modules;
  for (const RawTensor& t : golden().raw()) modules.insert(t.name.substr(0, t.name.find('.')));
  const std::string module = *std::next(modules.begin(), data[0] % int(modules.size()));
  const uint8_t* end = std::find(data + 1, data + size, uint8_t(0));
  const auto config = nlohmann::json::parse(data + 1, end, nullptr, false);
  if (config.is_discarded()) return;

  std::vector<Changed> parts;
  for (const RawTensor& t : golden().raw())
    if (t.name.starts_with(module + ".")) parts.push_back({t, {t.bytes.begin(), t.bytes.end()}});
  for (const uint8_t* at = end + 1; at + 6 <= data + size; at += 6) {
    uint32_t number;
    std::memcpy(&number, at + 2, 4);
    change(parts[at[0] % parts.size()], at[1], number);
  }
  std::map<std::string, const RawTensor*> tensors;
  for (Changed& part : parts) {
    if (part.tensor.shape.count() > 1 << 20) return;
    // as a safetensors file promises: as many bytes as shape and dtype make
    part.bytes.resize(size_t(part.tensor.shape.count() * bits_of(part.tensor.dtype) / 8));
    part.bytes.shrink_to_fit();
    part.tensor.bytes = part.bytes;
    tensors[part.tensor.name] = &part.tensor;
  }
  const PackedWeights packed(config, tensors, "fuzz");
  for (const std::string& each : packed.modules()) {
    const OwnedTensor weight = packed.weight(each);
    if (int64_t(weight.tensor.bytes.size()) != weight.tensor.format->bytes_for(weight.tensor.shape.count())) std::abort();
  }
}

}  // namespace
}  // namespace fettle

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  return size < 2 ? 0 : fettle::survives([&] { fettle::read(data, size); });
}
