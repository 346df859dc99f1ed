// Routers for tests.
#pragma once

#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "mneme/cache/policy/flux_router.h"
#include "mneme/core/rng.h"
#include "mneme/io/safetensors.h"

namespace mneme::testing {

// Tensors of one router: seeded random weights, the last layer's weights times `slope` and its bias
// (0, full_bias). With slope 0 the bias alone decides.
inline void add_router(std::vector<std::vector<float>>& storage, std::vector<TensorView>& tensors,
                       int64_t layer, int64_t dim, double slope, double full_bias, uint64_t seed) {
  Rng rng(seed);
  const int64_t sizes[] = {dim, 8 * dim, 2 * dim, 4 * dim, dim, 2};
  for (int64_t i = 0; i < kFluxLinears; ++i) {
    const int64_t in = sizes[i], out = sizes[i + 1];
    const bool last = i + 1 == kFluxLinears;
    std::vector<float> weight(static_cast<size_t>(in * out)), bias(static_cast<size_t>(out));
    for (float& value : weight) {
      value = static_cast<float>((last ? slope : 1) * rng.normal() /
                                 std::sqrt(static_cast<double>(in)));
    }
    if (last) bias[1] = static_cast<float>(full_bias);
    const std::string name = flux_router_prefix(layer) + flux_linear_name(i);
    const auto add = [&](const std::string& part, std::vector<int64_t> shape,
                         std::vector<float> values) {
      storage.push_back(std::move(values));
      tensors.push_back({name + part, DType::kF32, std::move(shape),
                         reinterpret_cast<const std::byte*>(storage.back().data()),
                         std::ssize(storage.back()) * int64_t{sizeof(float)}});
    };
    add(".weight", {out, in}, std::move(weight));
    add(".bias", {out}, std::move(bias));
  }
}

// A file of one router for each bias; see add_router().
inline void write_routers(const std::string& path, int64_t dim, const std::vector<double>& biases,
                          double slope = 0, uint64_t seed = 1) {
  std::vector<std::vector<float>> storage;
  std::vector<TensorView> tensors;
  for (size_t layer = 0; layer < biases.size(); ++layer)
    add_router(storage, tensors, static_cast<int64_t>(layer), dim, slope, biases[layer],
               seed + layer);
  write_safetensors(path, tensors, {});
}

}  // namespace mneme::testing
