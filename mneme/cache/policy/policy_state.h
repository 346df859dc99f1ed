// Numbers a policy remembers, as tensors of a saved memory and back. Tests: those of the policies
// that save something (cake_test.cc).
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "mneme/cache/memory.h"

namespace mneme {

template <typename T>
constexpr DType state_dtype() {
  if constexpr (std::is_same_v<T, double>) return DType::kF64;
  if constexpr (std::is_same_v<T, float>) return DType::kF32;
  if constexpr (std::is_same_v<T, int64_t>) return DType::kI64;
  if constexpr (std::is_same_v<T, int32_t>) return DType::kI32;
}

template <typename T>
StateTensor state_tensor(std::string name, const std::vector<T>& values) {
  StateTensor tensor{std::move(name), state_dtype<T>(), {std::ssize(values)}, {}};
  tensor.bytes.resize(values.size() * sizeof(T));
  if (!values.empty()) std::memcpy(tensor.bytes.data(), values.data(), tensor.bytes.size());
  return tensor;
}

// count: how many there must be; -1: any number. Throws Error naming the tensor.
template <typename T>
std::vector<T> read_state(const TensorSource& state, const std::string& name, int64_t count) {
  const TensorView& found = saved_tensor(state, name, state_dtype<T>(), {count});
  std::vector<T> values(static_cast<size_t>(found.shape[0]));
  if (!values.empty()) std::memcpy(values.data(), found.data, values.size() * sizeof(T));
  return values;
}

}  // namespace mneme
