// Makes GGUF files for tests, byte by byte and without the reader under test. Everything that a
// corrupt file lies about can be set: counts, types, lengths, offsets.
#pragma once

#include <cstdint>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mneme::testing {

// The little-endian bytes of a number.
template <typename T>
std::string bytes_of(T value) {
  std::string bytes(sizeof(T), '\0');
  std::memcpy(bytes.data(), &value, sizeof(T));
  return bytes;
}

// A GGUF string: u64 length and the text; `length` lies when it is given.
std::string gguf_text(std::string_view text, std::optional<uint64_t> length = std::nullopt);

class GgufBuilder {
 public:
  enum Type : uint32_t {
    kU8,
    kI8,
    kU16,
    kI16,
    kU32,
    kI32,
    kF32,
    kBool,
    kText,
    kArray,
    kU64,
    kI64,
    kF64
  };

  // A metadata pair whose value is already bytes.
  GgufBuilder& pair(std::string_view key, uint32_t type, std::string_view value);
  // The same with the key as bytes, length included.
  GgufBuilder& raw_pair(std::string_view key_bytes, uint32_t type, std::string_view value);
  GgufBuilder& integer(std::string_view key, uint32_t value);
  GgufBuilder& real(std::string_view key, float value);
  GgufBuilder& boolean(std::string_view key, bool value);
  GgufBuilder& text(std::string_view key, std::string_view value);
  // An array whose elements are already bytes; `count` of them are claimed.
  GgufBuilder& array(std::string_view key, uint32_t element_type, uint64_t count,
                     std::string_view elements);
  GgufBuilder& texts(std::string_view key, const std::vector<std::string>& values);
  GgufBuilder& integers(std::string_view key, const std::vector<int32_t>& values);
  GgufBuilder& reals(std::string_view key, const std::vector<float>& values);

  // A tensor of a ggml type (0: F32, 1: F16, 8: Q8_0); extents innermost first, as in the file. It
  // lies behind the one before, aligned, unless `offset` says otherwise.
  GgufBuilder& tensor(std::string_view name, uint32_t ggml_type, std::vector<uint64_t> extents,
                      std::string_view data, std::optional<uint64_t> offset = std::nullopt);

  std::string magic = "GGUF";
  uint32_t version = 3;
  uint64_t alignment = 32;  // how tensors are placed; says nothing in the metadata
  std::optional<uint64_t> claimed_tensors, claimed_pairs;
  std::optional<uint32_t> claimed_dimensions;  // of every tensor

  std::string build() const;

 private:
  std::string pairs_, table_, data_;
  uint64_t pair_count_ = 0, tensor_count_ = 0;
};

}  // namespace mneme::testing
