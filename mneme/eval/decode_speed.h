// How fast a session decodes where it stands, measured on a fork, so that the session goes on
// undisturbed. Tests: decode_speed_test.cc.
#pragma once

#include <cstdint>

#include "mneme/runtime/session.h"

namespace mneme {

// Tokens/s over `tokens` greedy tokens after the session's last one; 0 where the memory cannot be
// forked or has no room for them. One token more than is timed is run first: it copies the pages
// that the fork shares.
double measure_decode_rate(const Session& session, int64_t tokens);

}  // namespace mneme
