// How a memory is reported in JSON, everywhere the same: {spec, resident_bytes, logical_bytes,
// peak_bytes}; and a model's weights: {form, bytes, linear_bytes}.
#pragma once

#include <nlohmann/json.hpp>

#include "mneme/cache/memory.h"
#include "mneme/models/decoder.h"

namespace mneme::app {

inline nlohmann::ordered_json memory_json(const SequenceMemory& memory) {
  return {{"spec", memory.spec()},
          {"resident_bytes", memory.resident_bytes()},
          {"logical_bytes", memory.logical_bytes()},
          {"peak_bytes", memory.peak_bytes()}};
}

inline nlohmann::ordered_json weights_json(const DecoderModel& model) {
  return {{"form", model.linear_form()},
          {"bytes", model.weight_bytes()},
          {"linear_bytes", model.linear_bytes()}};
}

// Text that may hold bad UTF-8 never fails to print: bad bytes become U+FFFD.
inline std::string json_text(const nlohmann::ordered_json& json) {
  return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace mneme::app
