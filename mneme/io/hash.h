// A 128-bit content hash (XXH3) of bytes fed in pieces: fingerprints of models, checksums of files.
// Not for secrets. Tests: hash_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace mneme {

class Hash {
 public:
  Hash();
  ~Hash();
  Hash(const Hash&) = delete;
  Hash& operator=(const Hash&) = delete;

  void add(const void* data, int64_t bytes);
  // The text and its end, so that ("ab", "c") and ("a", "bc") differ.
  void add_text(std::string_view text);
  // Of everything added so far: 32 hexadecimal digits.
  std::string text() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace mneme
