#include "mneme/cache/memory_file.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <map>

#include "mneme/core/error.h"
#include "mneme/io/hash.h"
#include "mneme/io/safetensors.h"

namespace mneme {
namespace {

constexpr const char* kFormat = "mneme-memory-1";

std::string shape_of(const MemoryShape& shape) {
  std::string text = concat(shape.q_heads, ' ', shape.kv_heads, ' ', shape.k_dim, ' ', shape.v_dim,
                            ' ', shape.context, " windows");
  for (const int64_t window : shape.windows) text += " " + std::to_string(window);
  return text;
}

std::string checksum(std::vector<TensorView> tensors,
                     const std::map<std::string, std::string>& metadata) {
  Hash hash;
  for (const auto& [key, value] : metadata) {
    if (key == "checksum") continue;
    hash.add_text(key);
    hash.add_text(value);
  }
  std::ranges::sort(tensors, {}, &TensorView::name);
  for (const TensorView& tensor : tensors) {
    hash.add_text(tensor.name);
    hash.add_text(concat(dtype_name(tensor.dtype), shape_text(tensor.shape)));
    hash.add(tensor.data, tensor.bytes);
  }
  return hash.text();
}

std::map<std::string, std::string> identity_fields(const MemoryShape& shape,
                                                   const MemoryIdentity& identity) {
  return {{"model", identity.model},
          {"tokenizer", identity.tokenizer},
          {"template", identity.chat_template},
          {"shape", shape_of(shape)}};
}

}  // namespace

void save_memory(const std::string& path, const SequenceMemory& memory,
                 const std::vector<int32_t>& tokens, const MemoryIdentity& identity) {
  MNEME_CHECK(memory.capabilities().persist, "save: memory ", memory.spec(), " cannot be saved");
  const int64_t seen = memory.seen_tokens();
  MNEME_CHECK(seen == std::ssize(tokens), "save: the memory has seen ", seen, " tokens, ",
              tokens.size(), " are given");
  std::vector<StateTensor> state = memory.save_state();
  std::vector<TensorView> tensors;
  for (const StateTensor& tensor : state) {
    tensors.push_back({tensor.name, tensor.dtype, tensor.shape, tensor.bytes.data(),
                       static_cast<int64_t>(tensor.bytes.size())});
  }
  tensors.push_back({"tokens",
                     DType::kI32,
                     {static_cast<int64_t>(tokens.size())},
                     reinterpret_cast<const std::byte*>(tokens.data()),
                     static_cast<int64_t>(tokens.size() * sizeof(int32_t))});
  std::map<std::string, std::string> metadata = identity_fields(memory.shape(), identity);
  metadata["format"] = kFormat;
  metadata["spec"] = memory.spec();
  metadata["length"] = std::to_string(memory.length());
  metadata["checksum"] = checksum(tensors, metadata);
  write_safetensors(path, tensors, metadata);
}

LoadedMemory load_memory(const std::string& path, const MemoryRegistry& registry,
                         const MemoryShape& shape, const MemoryIdentity& identity) {
  const auto file = SafetensorsFile::open(path);
  const auto& metadata = file->metadata();
  const auto field = [&](const std::string& key) -> const std::string& {
    const auto found = metadata.find(key);
    MNEME_CHECK(found != metadata.end(), path, ": no saved memory: '", key, "' is missing");
    return found->second;
  };
  MNEME_CHECK(field("format") == kFormat, path, ": format '", field("format"), "' is not ",
              kFormat);
  MNEME_CHECK(field("checksum") == checksum(file->tensors(), metadata), path,
              ": the checksum does not match: the file is damaged");
  for (const auto& [key, value] : identity_fields(shape, identity)) {
    MNEME_CHECK(field(key) == value, path, ": was saved with another ", key, " (", field(key),
                ", this one is ", value, ")");
  }
  int64_t length = -1;
  const std::string& length_text = field("length");
  std::from_chars(length_text.data(), length_text.data() + length_text.size(), length);
  const TensorView* tokens = file->find("tokens");
  MNEME_CHECK(tokens != nullptr && tokens->dtype == DType::kI32 && tokens->shape.size() == 1 &&
                  length >= 0 && tokens->shape[0] >= length,
              path, ": expected at least ", length_text, " tokens");
  LoadedMemory loaded{registry.build(field("spec"), shape),
                      std::vector<int32_t>(static_cast<size_t>(tokens->shape[0]))};
  if (tokens->bytes > 0)
    std::memcpy(loaded.tokens.data(), tokens->data, static_cast<size_t>(tokens->bytes));
  loaded.memory->load_state(*file, length);
  const int64_t seen = loaded.memory->seen_tokens();
  MNEME_CHECK(seen == std::ssize(loaded.tokens), path, ": the memory has seen ", seen, " tokens, ",
              loaded.tokens.size(), " are there");
  return loaded;
}

}  // namespace mneme
