// The JSON header of a safetensors file, checked while it is read: no tree is built, so neither
// depth nor width of hostile JSON costs more than its own bytes. Tests: safetensors_test.cc.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/core/dtype.h"

namespace mneme {

// The format's own cap.
inline constexpr uint64_t kLargestSafetensorsHeader = 100'000'000;

struct SafetensorsEntry {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;  // extents >= 0
  int64_t begin = 0, end = 0;  // from the first byte after the header; 0 <= begin <= end
};

struct SafetensorsHeader {
  std::vector<SafetensorsEntry> entries;  // in the order of the JSON text
  std::map<std::string, std::string> metadata;
};

// Throws Error, its message led by `origin`. Sizes against the file are the caller's to check.
SafetensorsHeader parse_safetensors_header(std::string_view json, const std::string& origin);

// Whether the format knows `dtype` (GGUF's quantised blocks it does not).
bool is_safetensors_dtype(DType dtype);

}  // namespace mneme
