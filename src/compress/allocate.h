// Choosing a format per tensor under a limit of bytes: each option costs bytes and loses something; the sum of what is lost is made small.
// Every tensor begins with its cheapest option; then the upgrade that mends most per byte is taken, along each tensor's lower convex hull
// (the greedy path of Lagrangian allocation: Shoham and Gersho 1988), and what is left over is spent on whatever still fits.
// Private to the room.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace fettle {

struct TypeOption {
  uint64_t bytes = 0;
  double loss = 0;
};
// The index chosen for each tensor; nullopt when even the cheapest options exceed `limit`. Each list holds at least one option.
std::optional<std::vector<size_t>> allocate(const std::vector<std::vector<TypeOption>>& tensors, uint64_t limit);

}  // namespace fettle
