// A file that remembers finished parts of long work, so that work that was cut off goes on where it
// was: JSON lines, one a part, each on disk before append() returns.
//
//   {"key":"5f3c...","value":{...}}
//
// A key says what the part was made from (a hash of everything that decides its result); a later line
// of the same key replaces an earlier one. What a crash left of a last line is cut off, a line that
// is no such object is passed over; both are said. One process at a time holds a journal.
// Tests: journal_test.cc, journal_fuzz.cc.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <string_view>

namespace mneme {

// The parts of a journal's text.
struct JournalParts {
  std::map<std::string, std::string> values;  // key -> value, JSON on one line
  int64_t good_bytes = 0;                     // of `text`, up to the end of its last whole line
  std::string damage;                         // what was passed over; empty: nothing
};
JournalParts parse_journal(std::string_view text);

class Journal {
 public:
  // Opens or creates it; fresh: forgets what it holds. Throws Error where it cannot be written,
  // another process holds it, or the file is something else than a journal.
  Journal(std::string path, bool fresh);
  ~Journal();
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  const std::string& path() const { return path_; }
  int64_t size() const { return static_cast<int64_t>(parts_.values.size()); }
  // What was passed over when it was opened; empty: nothing.
  const std::string& damage() const { return parts_.damage; }
  // The value of a finished part, or null.
  const std::string* find(const std::string& key) const;
  // value: JSON. Throws Error with the system's reason.
  void append(const std::string& key, std::string_view value);

 private:
  std::string path_;
  JournalParts parts_;
  int descriptor_ = -1;
};

}  // namespace mneme
