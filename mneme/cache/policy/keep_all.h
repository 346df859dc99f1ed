// Keeps every row the model itself would see: exact attention, the policy of `full`, `q8` and `q4`.
#pragma once

#include "mneme/cache/cache_policy.h"

namespace mneme {

class KeepAll final : public CachePolicy {
 public:
  using CachePolicy::CachePolicy;
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<KeepAll>(*this); }
  bool exact() const override { return true; }
};

}  // namespace mneme
