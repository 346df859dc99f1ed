// The spec `alisa`: sparse window attention over three tiers (alisa_memory.h). Tests:
// alisa_memory_test.cc.
#pragma once

#include "mneme/cache/memory_registry.h"

namespace mneme {

void add_builtin_alisa(MemoryRegistry& registry);

}  // namespace mneme
