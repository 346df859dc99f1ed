// A loop over the SIMD targets of the machine, for tests.
#pragma once

#include <gtest/gtest.h>

#include <cstdint>

#include "mneme/kernels/simd_targets.h"
#include "mneme/kernels/vnni.h"
// Highway after the choice of targets.
#include <hwy/highway.h>

namespace mneme {

// Calls test() once for every SIMD target that this machine supports and the kernels were built
// for.
template <typename Test>
void for_each_target(Test&& test) {
  const int64_t supported = hwy::SupportedTargets() & HWY_TARGETS;
  for (int64_t left = supported; left != 0; left &= left - 1) {
    const int64_t target = left & -left;
    hwy::SetSupportedTargetsForTest(target);
    hwy::GetChosenTarget().Update(target);
    SCOPED_TRACE(hwy::TargetName(target));
    test();
  }
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

// for_each_target, and once more without VNNI for the target whose kernels use it.
template <typename Test>
void for_each_arithmetic(Test&& test) {
  for_each_target([&] {
    test();
    if ((hwy::SupportedTargets() & HWY_AVX3) == 0 || !use_vnni()) return;
    SCOPED_TRACE("without VNNI");
    allow_vnni(false);
    test();
    allow_vnni(true);
  });
}

}  // namespace mneme
