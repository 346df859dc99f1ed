// Scratch that grows to the largest call and is then reused. Tests: grown_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mneme {

// At least `count` elements of `values`, which never shrink; new ones are value-initialised.
template <typename T>
T* grown(std::vector<T>& values, int64_t count) {
  if (static_cast<int64_t>(values.size()) < count) values.resize(static_cast<size_t>(count));
  return values.data();
}

}  // namespace mneme
