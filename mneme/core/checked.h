// Overflow-checked integer arithmetic for every size that comes from a file or a user.
#pragma once

#include <cstdint>

#include "mneme/core/error.h"

namespace mneme {

// a + b; throws Error naming `what` when the sum does not fit.
inline int64_t checked_add(int64_t a, int64_t b, const char* what) {
  int64_t sum = 0;
  MNEME_CHECK(!__builtin_add_overflow(a, b, &sum), what, ": size overflow in ", a, " + ", b);
  return sum;
}

// a * b; throws Error naming `what` when the product does not fit.
inline int64_t checked_mul(int64_t a, int64_t b, const char* what) {
  int64_t product = 0;
  MNEME_CHECK(!__builtin_mul_overflow(a, b, &product), what, ": size overflow in ", a, " * ", b);
  return product;
}

// `value` rounded up to a multiple of `unit` (> 0).
inline int64_t checked_round_up(int64_t value, int64_t unit, const char* what) {
  return checked_add(value, unit - 1, what) / unit * unit;
}

// Ceiling division of non-negative `value` by `unit` (> 0).
constexpr int64_t ceil_div(int64_t value, int64_t unit) {
  return value / unit + (value % unit != 0);
}

}  // namespace mneme
