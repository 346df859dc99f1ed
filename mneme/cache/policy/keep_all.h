// Keeps every row the model itself would see: exact attention, the policy of `full`, `q8` and `q4`.
#pragma once

#include "mneme/cache/row_policy.h"

namespace mneme {

class KeepAll final : public RowPolicy {
 public:
  Visibility visibility(int64_t model_window) const override {
    return {.window = model_window, .sink = 0};
  }
  bool exact() const override { return true; }
  bool bounded() const override { return false; }
};

}  // namespace mneme
