// Two kinds of failure: `Error` is the caller's or a file's fault and its message is written for a
// person (what was seen, what was expected); `InternalError` is ours and means that a promise
// inside the library was broken.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace mneme {

class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

class InternalError : public std::logic_error {
 public:
  using std::logic_error::logic_error;
};

// Joins any streamable values into one string.
template <typename... Args>
std::string concat(const Args&... args) {
  std::ostringstream out;
  (out << ... << args);
  return out.str();
}

template <typename... Args>
[[noreturn]] void fail(const Args&... args) {
  throw Error(concat(args...));
}

}  // namespace mneme

// Rejects bad input: MNEME_CHECK(n > 0, "attend: tokens must be positive, got ", n).
#define MNEME_CHECK(condition, ...)               \
  do {                                            \
    if (!(condition)) ::mneme::fail(__VA_ARGS__); \
  } while (false)

// States what only a bug of ours can break.
#define MNEME_ASSERT(condition)                                                                 \
  do {                                                                                          \
    if (!(condition))                                                                           \
      throw ::mneme::InternalError(::mneme::concat(__FILE__, ":", __LINE__, ": ", #condition)); \
  } while (false)
