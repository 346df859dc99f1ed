// The spec `landmark`, a memory of blocks for models that know no landmark tokens. Models that do are
// run by runtime/landmark_session.h. Tests: builtin_landmark_test.cc.
#pragma once

#include "mneme/cache/memory_registry.h"

namespace mneme {

void add_builtin_landmark(MemoryRegistry& registry);

}  // namespace mneme
