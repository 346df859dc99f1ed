// The row policies of this library, as entries of the memory registry. Tests:
// memory_registry_test.cc.
#pragma once

#include "mneme/cache/memory_registry.h"

namespace mneme {

// In the order of `mneme list`.
void add_builtin_policies(MemoryRegistry& registry);

}  // namespace mneme
