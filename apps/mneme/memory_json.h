// How a memory is reported in JSON, everywhere the same: {spec, resident_bytes, logical_bytes,
// peak_bytes}.
#pragma once

#include <nlohmann/json.hpp>

#include "mneme/cache/memory.h"

namespace mneme::app {

inline nlohmann::ordered_json memory_json(const SequenceMemory& memory) {
  return {{"spec", memory.spec()},
          {"resident_bytes", memory.resident_bytes()},
          {"logical_bytes", memory.logical_bytes()},
          {"peak_bytes", memory.peak_bytes()}};
}

// Text that may hold bad UTF-8 never fails to print: bad bytes become U+FFFD.
inline std::string json_text(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace mneme::app
