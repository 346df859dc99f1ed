// libFuzzer target: any text is head scores or an Error, and what was read is written and read back
// the same. Seeds: tests/fuzz/head_scores/.
#include <cstddef>
#include <cstdint>

#include "mneme/core/error.h"
#include "mneme/io/head_scores.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const auto scores =
        mneme::HeadScores::parse({reinterpret_cast<const char*>(data), size}, "fuzz");
    MNEME_ASSERT(mneme::HeadScores::parse(scores.text(), "again").lists() == scores.lists());
  } catch (const mneme::Error&) {
  }
  return 0;
}
