// Every memory by name: what it is, what it takes, how it is built. The command line, the library,
// tests and reports all build memories here from the same spec strings (core/spec.h); `mneme list`
// and the README's table are printed from it. Tests: memory_registry_test.cc.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/cache/cache_policy.h"
#include "mneme/cache/memory.h"
#include "mneme/core/spec.h"
#include "mneme/kernels/row_page.h"

namespace mneme {

// One parameter of a spec term, with its range: out of range is refused with the position in the
// spec.
struct ParameterInfo {
  enum class Type { kInteger, kReal, kChoice, kText };
  std::string name;
  Type type = Type::kInteger;
  std::string fallback;              // as it would be written
  double min = 0, max = 0;           // kInteger, kReal
  std::vector<std::string> choices;  // kChoice
  std::string help;

  static ParameterInfo integer(std::string name, std::string fallback, double min, double max,
                               std::string help);
  static ParameterInfo real(std::string name, std::string fallback, double min, double max,
                            std::string help);
  static ParameterInfo choice(std::string name, std::string fallback,
                              std::vector<std::string> choices, std::string help);
  static ParameterInfo text(std::string name, std::string fallback, std::string help);
};

// The arguments of one term, checked against its parameters, defaults filled in.
class Parameters {
 public:
  int64_t integer(std::string_view name) const;
  double real(std::string_view name) const;
  const std::string& choice(std::string_view name) const;
  // kText: whatever a value may be, as a file's path; the entry checks it.
  const std::string& text(std::string_view name) const;

 private:
  friend class MemoryRegistry;
  const std::string& value(std::string_view name) const;
  std::vector<std::pair<std::string, std::string>> values_;
};

// What the terms of a spec put together: at most one row format, one policy (whose rows may close
// ranks) and one prompt filter; or a memory that is no PagedMemory, with at most a row format.
struct MemoryParts {
  std::optional<RowFormat> format;
  // Builds it; throws Error where shape or format (null: none was given) does not fit it.
  std::function<std::unique_ptr<SequenceMemory>(std::string spec, const MemoryShape& shape,
                                                const RowFormat* format)>
      whole;
  PolicyMaker policy;  // of a shape; throws Error where the policy does not fit it
  std::function<std::shared_ptr<const PromptFilter>(const MemoryShape&)> filter;
  bool rotate_keys = false;  // see PagedMemory, likewise:
  bool rerotate = false;
};

struct MemoryEntry {
  std::string name;
  // "row format", "row policy", "row positions", "prompt filter" or "whole memory": a spec takes at
  // most one term of each kind, and beside a whole memory only a row format.
  std::string kind;
  std::string summary;  // one line
  std::string paper;
  std::string state;  // bytes as a formula
  std::vector<ParameterInfo> parameters;
  std::string source;  // the file that implements it
  std::function<void(const Parameters&, MemoryParts&)> apply;
};

class MemoryRegistry {
 public:
  // With every memory of the library (builtin_memories.cc).
  static const MemoryRegistry& builtin();

  // Throws Error when the name is taken or a fallback does not satisfy its own range.
  void add(MemoryEntry entry);
  const std::vector<MemoryEntry>& entries() const { return entries_; }
  // Throws Error with the nearest name and the list of all.
  const MemoryEntry& entry(std::string_view name) const;

  // Builds the memory a spec describes for a model of this shape. Throws Error with the position in
  // the spec for an unknown name (and the nearest one, and the list), an unknown or ill-formed
  // argument, two terms of one kind, a format that does not fit the shape.
  std::unique_ptr<SequenceMemory> build(std::string_view spec, const MemoryShape& shape) const;
  // The spec with its defaults, for people: "q4(group=64)".
  std::string canonical(std::string_view spec) const;

 private:
  Parameters check_arguments(const Spec& spec, const SpecTerm& term,
                             const MemoryEntry& entry) const;
  const MemoryEntry& entry_at(const Spec& spec, const SpecTerm& term) const;
  std::vector<std::string> names() const;

  std::vector<MemoryEntry> entries_;
};

}  // namespace mneme
