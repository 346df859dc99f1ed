#include "mneme/io/journal.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <tuple>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::string_view kBegin = "{\"key\":";
constexpr int kMostNesting = 32;

// Discarded where it is no JSON, or JSON of more brackets in brackets than anything we wrote.
Json parse_line(std::string_view text) {
  bool too_deep = false;
  Json json = Json::parse(
      text,
      [&](int depth, Json::parse_event_t, Json&) {
        too_deep = too_deep || depth > kMostNesting;
        return !too_deep;
      },
      false);
  return too_deep ? Json(Json::value_t::discarded) : json;
}

std::string read_all(int descriptor, const std::string& path) {
  std::string text;
  std::array<char, 1 << 16> buffer;
  while (true) {
    const ssize_t got =
        ::pread(descriptor, buffer.data(), buffer.size(), static_cast<off_t>(text.size()));
    if (got < 0 && errno == EINTR) continue;
    MNEME_CHECK(got >= 0, "cannot read ", path, ": ", std::strerror(errno));
    if (got == 0) return text;
    text.append(buffer.data(), static_cast<size_t>(got));
  }
}

bool is_part(const Json& line) {
  return line.is_object() && line.contains("key") && line["key"].is_string() &&
         line.contains("value");
}

std::string line_of(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

JournalParts parse_journal(std::string_view text) {
  JournalParts parts;
  int64_t number = 0, damaged = 0, first_damaged = 0;
  for (size_t at = 0; at < text.size();) {
    const size_t end = text.find('\n', at);
    if (end == std::string_view::npos) {
      parts.damage = concat("its last line is cut off (", text.size() - at, " bytes)");
      break;
    }
    ++number;
    const Json line = parse_line(text.substr(at, end - at));
    if (is_part(line)) {
      parts.values[line["key"].get<std::string>()] = line_of(line["value"]);
    } else if (damaged++ == 0) {
      first_damaged = number;
    }
    at = end + 1;
    parts.good_bytes = static_cast<int64_t>(at);
  }
  if (damaged > 0)
    parts.damage = concat(damaged, damaged == 1 ? " line is damaged" : " lines are damaged",
                          ", the first is line ", first_damaged, parts.damage.empty() ? "" : "; ",
                          parts.damage);
  return parts;
}

Journal::Journal(std::string path, bool fresh) : path_(std::move(path)) {
  descriptor_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
  MNEME_CHECK(descriptor_ >= 0, "cannot write ", path_, ": ", std::strerror(errno));
  try {
    struct stat kind = {};
    MNEME_CHECK(::fstat(descriptor_, &kind) == 0 && S_ISREG(kind.st_mode), "cannot write ", path_,
                ": it is not a regular file");
    MNEME_CHECK(::flock(descriptor_, LOCK_EX | LOCK_NB) == 0, path_,
                ": another run is writing it; wait for that one, or choose another file");
    const std::string text = read_all(descriptor_, path_);
    parts_ = parse_journal(text);
    const std::string_view begin = std::string_view(text).substr(0, kBegin.size());
    MNEME_CHECK(kBegin.starts_with(begin) || !parts_.values.empty(), path_,
                ": is no journal of this program, and is left as it is");
    if (fresh) parts_ = {};
    MNEME_CHECK(::ftruncate(descriptor_, parts_.good_bytes) == 0, "cannot write ", path_, ": ",
                std::strerror(errno));
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

Journal::~Journal() { ::close(descriptor_); }

const std::string* Journal::find(const std::string& key) const {
  const auto found = parts_.values.find(key);
  return found == parts_.values.end() ? nullptr : &found->second;
}

void Journal::append(const std::string& key, std::string_view value) {
  const Json json = parse_line(value);
  MNEME_ASSERT(!json.is_discarded());
  const std::string line = line_of({{"key", key}, {"value", json}}) + "\n";
  size_t written = 0;
  while (written < line.size()) {
    const ssize_t count = ::write(descriptor_, line.data() + written, line.size() - written);
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) {
      const int error = count < 0 ? errno : EIO;
      // Half a line must not stand before the next one. Where it stays, it is passed over later.
      std::ignore = ::ftruncate(descriptor_, parts_.good_bytes);
      fail("cannot write ", path_, ": ", std::strerror(error));
    }
    written += static_cast<size_t>(count);
  }
  MNEME_CHECK(::fsync(descriptor_) == 0, "cannot write ", path_, ": ", std::strerror(errno));
  parts_.good_bytes += static_cast<int64_t>(line.size());
  parts_.values[key] = line_of(json);
}

}  // namespace mneme
