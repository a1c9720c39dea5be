// Names of experts and of the stacks that GGUF keeps them in.
#include <charconv>

#include "store/gguf.h"

namespace fettle {
namespace {

constexpr std::string_view kBlock = "blk.", kStack = "_exps", kWeight = ".weight";

}  // namespace

std::optional<ExpertPlace> expert_place(std::string_view name) {
  const size_t weight = name.find(kWeight);
  if (!name.starts_with(kBlock) || weight == name.npos) return std::nullopt;
  const std::string_view place = name.substr(0, weight);  // "blk.3.ffn_gate.17"
  const size_t role = place.find('.', kBlock.size()), dot = place.rfind('.');
  if (dot <= role || place.size() - dot > 7) return std::nullopt;  // no number behind the role, or an absurd one
  const std::string_view digits = place.substr(dot + 1);
  int expert = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), expert);
  if (error != std::errc() || end != digits.data() + digits.size() || expert < 0) return std::nullopt;
  return ExpertPlace{std::string(place.substr(0, dot)) + std::string(kStack) + std::string(name.substr(weight)), expert};
}

std::string expert_name(std::string_view stack, int expert) {
  const size_t end = stack.find(std::string(kStack) + std::string(kWeight));
  if (!stack.starts_with(kBlock) || end == stack.npos) return {};
  return std::string(stack.substr(0, end)) + "." + std::to_string(expert) + std::string(stack.substr(end + kStack.size()));
}

Tensor expert_of(const Tensor& stack, int expert) {
  const size_t bytes = stack.bytes.size() / size_t(stack.shape.dim[0]);
  return {stack.format, {stack.shape.dim[1], stack.shape.dim[2]}, stack.bytes.subspan(size_t(expert) * bytes, bytes)};
}

}  // namespace fettle
