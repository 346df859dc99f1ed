#include "mneme/io/atomic_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr int kNameAttempts = 100;
// Linux writes at most this much in one call.
constexpr int64_t kLargestWrite = int64_t{1} << 30;

std::string folder_of(const std::string& path) {
  const size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

// A name beside `path` that no other writer of this process or of a living process uses; what a
// crashed one left behind is skipped by O_EXCL. Kept short for file systems with 255-byte names.
std::string temporary_name(const std::string& path) {
  static std::atomic<uint64_t> counter{0};
  const size_t slash = path.rfind('/');
  const std::string folder = slash == std::string::npos ? "" : path.substr(0, slash + 1);
  const std::string base = path.substr(folder.size(), 200);
  return concat(folder, ".", base, ".", ::getpid(), ".", counter.fetch_add(1), ".tmp");
}

void sync_folder(const std::string& path) {
  const std::string folder = folder_of(path);
  const int descriptor = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  MNEME_CHECK(descriptor >= 0, folder, ": cannot open to make ", path,
              " durable: ", std::strerror(errno));
  const int result = ::fsync(descriptor);
  const int error = errno;
  ::close(descriptor);
  // Some file systems cannot sync a folder and say EINVAL.
  MNEME_CHECK(result == 0 || error == EINVAL, folder, ": cannot sync, ", path,
              " is written but may not survive a power loss: ", std::strerror(error));
}

}  // namespace

AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  MNEME_CHECK(!path_.empty() && path_.back() != '/', "cannot write '", path_,
              "': expected the name of a file");
  MNEME_CHECK(path_.find('\0') == std::string::npos,
              "cannot write a file name with a NUL byte: ", std::string(path_.c_str()), "...");
  struct stat old = {};
  const bool exists = ::stat(path_.c_str(), &old) == 0;
  MNEME_CHECK(!exists || S_ISREG(old.st_mode), "cannot write ", path_,
              ": it exists and is not a regular file");
  for (int attempt = 0; attempt < kNameAttempts && descriptor_ < 0; ++attempt) {
    temporary_ = temporary_name(path_);
    descriptor_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (descriptor_ < 0 && errno != EEXIST) break;
  }
  MNEME_CHECK(descriptor_ >= 0, "cannot write ", path_, ": ", std::strerror(errno));
  // What was private stays private. Best effort: some file systems have no modes.
  if (exists) std::ignore = ::fchmod(descriptor_, old.st_mode & 0777);
}

AtomicFile::~AtomicFile() {
  if (descriptor_ < 0) return;
  ::close(descriptor_);
  ::unlink(temporary_.c_str());
}

void AtomicFile::check_writable() const {
  MNEME_CHECK(descriptor_ >= 0, "cannot write ", path_, ": already committed");
  MNEME_CHECK(!failed_, "cannot write ", path_, ": an earlier write failed");
}

void AtomicFile::write(const void* data, int64_t bytes) {
  MNEME_CHECK(bytes >= 0, "cannot write ", path_, ": negative size ", bytes);
  check_writable();
  const auto* next = static_cast<const char*>(data);
  while (bytes > 0) {
    const auto piece = static_cast<size_t>(std::min(bytes, kLargestWrite));
    const ssize_t written = ::write(descriptor_, next, piece);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) {
      failed_ = true;
      fail("cannot write ", path_, ": ", std::strerror(written < 0 ? errno : EIO));
    }
    next += written;
    bytes -= written;
  }
}

void AtomicFile::commit() {
  check_writable();
  MNEME_CHECK(::fsync(descriptor_) == 0, "cannot write ", path_, ": ", std::strerror(errno));
  MNEME_CHECK(::rename(temporary_.c_str(), path_.c_str()) == 0, "cannot write ", path_, ": ",
              std::strerror(errno));
  ::close(std::exchange(descriptor_, -1));
  sync_folder(path_);
}

void write_file_atomically(const std::string& path, std::string_view text) {
  AtomicFile file(path);
  file.write(text.data(), static_cast<int64_t>(text.size()));
  file.commit();
}

}  // namespace mneme
