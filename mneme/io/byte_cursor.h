// Takes numbers, strings and counts from the front of a binary file and never goes beyond its end:
// every length is measured against the bytes left before it is used. Little-endian. Tests:
// gguf_corrupt_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>

#include "mneme/core/error.h"

namespace mneme {

class ByteCursor {
 public:
  ByteCursor(const std::byte* data, int64_t size, const std::string& origin)
      : data_(data), size_(size), origin_(origin) {}

  int64_t position() const { return position_; }
  int64_t left() const { return size_ - position_; }

  template <typename T>
  T take(const char* what) {
    T value;
    std::memcpy(&value, take_bytes(sizeof(T), what), sizeof(T));
    return value;
  }

  const std::byte* take_bytes(int64_t count, const char* what) {
    MNEME_CHECK(count <= left(), origin_, ": the file ends inside ", what, " at byte ", position_,
                ": ", count, " bytes wanted, ", left(), " left");
    const std::byte* at = data_ + position_;
    position_ += count;
    return at;
  }

  // A string: u64 length and bytes.
  std::string_view take_string(const char* what, uint64_t largest) {
    const auto length = take<uint64_t>(what);
    MNEME_CHECK(length <= largest, origin_, ": ", what, " at byte ", position_, " has length ",
                length, ", at most ", largest);
    MNEME_CHECK(length <= static_cast<uint64_t>(left()), origin_, ": ", what, " at byte ",
                position_, " has length ", length, ", the file has ", left(), " bytes left");
    const auto bytes = static_cast<int64_t>(length);
    return {reinterpret_cast<const char*>(take_bytes(bytes, what)), static_cast<size_t>(length)};
  }

  // A count of entries of at least `smallest` bytes each.
  int64_t take_count(const char* what, int64_t smallest) {
    const auto count = take<uint64_t>(what);
    check_count(count, what, smallest);
    return static_cast<int64_t>(count);
  }

  void check_count(uint64_t count, const char* what, int64_t smallest) const {
    MNEME_CHECK(count <= static_cast<uint64_t>(left() / smallest), origin_, ": ", what, " is ",
                count, ", the ", left(), " bytes left hold at most ", left() / smallest);
  }

 private:
  const std::byte* data_;
  int64_t size_;
  int64_t position_ = 0;
  const std::string& origin_;
};

}  // namespace mneme
