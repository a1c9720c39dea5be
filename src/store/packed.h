// Weights that a Hugging Face folder holds as codes: GPTQ, AWQ, bitsandbytes, compressed-tensors. What its quantization_config says and the
// tensors of the folder become one tensor a linear, in a format that holds the codes as they are (packed.cc says which).
#pragma once
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <set>
#include <string>
#include <vector>

#include "store/store.h"

namespace fettle {

// A tensor that owns its bytes.
struct OwnedTensor {
  std::vector<std::byte> bytes;
  Tensor tensor;
};

class Packing;

// Of a folder whose configuration says how its weights are packed.
class PackedWeights {
 public:
  // config: "quantization_config" of config.json, or the whole of the quantize_config.json (GPTQ) or quant_config.json (AWQ) that older
  // folders have instead. tensors: the whole folder's, by name; they outlive this. place: the folder, for errors. Error{refused}: a method,
  // a packing or an option that changes what weights mean and is not known here; tensors that do not belong together.
  PackedWeights(const nlohmann::json& config, const std::map<std::string, const RawTensor*>& tensors, const std::string& place);
  ~PackedWeights();
  PackedWeights(PackedWeights&&) noexcept;
  PackedWeights& operator=(PackedWeights&&) noexcept;

  // Modules whose weight is packed: "model.layers.0.mlp.up_proj".
  const std::set<std::string>& modules() const { return modules_; }
  // Whether the tensor of that name is a part of one (or of how its inputs were meant to be rounded); such a tensor is read here alone.
  bool owns(const std::string& tensor) const { return owned_.count(tensor) != 0; }
  // The module's weight (out, in), rows in the folder's order. Its format is one that holds the packed codes and scales exactly; where
  // there is none, the weights decoded, in F32. Error{refused} naming module and tensor: sizes that do not fit, codes out of range, scales
  // that are not finite.
  OwnedTensor weight(const std::string& module) const;

 private:
  std::unique_ptr<Packing> packing_;
  std::map<std::string, const RawTensor*> tensors_;
  std::string place_;
  std::set<std::string> modules_, owned_;
};

// One way to pack the weights of linears where a folder is written.
class WeightPacker {
 public:
  virtual ~WeightPacker() = default;
  // What weights are to be in when they are packed; nullptr: any format, whose weights are rounded as they are packed.
  virtual const Format* format() const = 0;
  // Whether whoever reads it knows packed experts of a mixture too.
  virtual bool experts() const { return true; }
  // The folder's quantization_config.
  virtual nlohmann::json config() const = 0;
  // The tensors of a linear of this shape (out, in), by what follows its module's name. Error{refused}: it cannot be packed this way.
  struct Part {
    std::string name, dtype;
    Shape shape;
  };
  virtual std::vector<Part> parts(const Shape& shape) const = 0;
  // Their bytes.
  virtual std::vector<std::vector<std::byte>> pack(const Tensor& weight) const = 0;
};
// kind: "gptq" (2, 3, 4 or 8 bits, groups of 32, 64 or 128), "awq" (4 bits), "nf4" (4 bits, groups of 64, scales rounded once more).
// Error{usage}: others.
std::unique_ptr<WeightPacker> weight_packer(const std::string& kind, int bits, int group);

}  // namespace fettle
