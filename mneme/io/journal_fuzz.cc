// libFuzzer target: any text is parts of a journal, and those written anew are read back the same.
// Seeds: tests/fuzz/journal/.
#include <cstddef>
#include <cstdint>

#include "mneme/core/error.h"
#include "mneme/io/journal.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const mneme::JournalParts parts = mneme::parse_journal(text);
  const auto whole = text.substr(0, static_cast<size_t>(parts.good_bytes));
  MNEME_ASSERT(mneme::parse_journal(whole).values == parts.values);
  return 0;
}
