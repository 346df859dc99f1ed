// A memory in a file: safetensors with the tokens it has seen, the state tensors of its kind, what
// it was made with and a checksum of everything. A file made with another model, tokenizer,
// template or spec is refused by the name of what differs; a damaged one is refused as a whole.
// Written atomically. Tests: memory_file_test.cc.
//
// Metadata: format = "mneme-memory-1", spec, length, model, tokenizer, template (fingerprints),
// shape, checksum (XXH3-128 of names, types, shapes and bytes of all tensors in name order and of
// the other metadata).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/cache/memory_registry.h"

namespace mneme {

// What a saved memory belongs to. Two equal identities mean the same tokens give the same rows.
struct MemoryIdentity {
  std::string model;
  std::string tokenizer;
  std::string chat_template;
};

struct LoadedMemory {
  std::unique_ptr<SequenceMemory> memory;
  std::vector<int32_t> tokens;  // those the memory has seen
};

// tokens: those the memory has seen, memory.seen_tokens() of them. Throws Error when the memory
// cannot be persisted, on a mismatch, on a full disk; an existing file is then untouched.
void save_memory(const std::string& path, const SequenceMemory& memory,
                 const std::vector<int32_t>& tokens, const MemoryIdentity& identity);

// Builds the memory the file describes for a model of `shape`. Throws Error naming the file and the
// field that differs or the fault.
LoadedMemory load_memory(const std::string& path, const MemoryRegistry& registry,
                         const MemoryShape& shape, const MemoryIdentity& identity);

}  // namespace mneme
