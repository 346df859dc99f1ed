// The message of a rejected call, for tests that assert it.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "mneme/core/error.h"

namespace mneme::testing {

// What the mneme::Error thrown by `call` says; fails the test when nothing is thrown.
template <typename Call>
std::string error_of(Call&& call) {
  try {
    call();
  } catch (const Error& error) {
    return error.what();
  }
  ADD_FAILURE() << "expected an Error, nothing was thrown";
  return "";
}

}  // namespace mneme::testing
