#include "mneme/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "mneme/core/error.h"

namespace mneme {
namespace {

class Descriptor {
 public:
  explicit Descriptor(int value) : value_(value) {}
  ~Descriptor() {
    if (value_ >= 0) ::close(value_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return value_; }

 private:
  int value_;
};

const char* kind_name(mode_t mode) {
  if (S_ISDIR(mode)) return "a folder";
  if (S_ISFIFO(mode)) return "a FIFO";
  if (S_ISSOCK(mode)) return "a socket";
  if (S_ISCHR(mode) || S_ISBLK(mode)) return "a device";
  return "not a regular file";
}

void check_regular(const std::string& path, const struct stat& status) {
  MNEME_CHECK(S_ISREG(status.st_mode), path, ": is ", kind_name(status.st_mode),
              ", expected a regular file");
}

[[noreturn]] void fail_to_open(const std::string& path, int error) {
  struct stat link = {};
  if (error == ENOENT && ::lstat(path.c_str(), &link) == 0 && S_ISLNK(link.st_mode)) {
    std::array<char, 4096> target = {};
    const ssize_t length = ::readlink(path.c_str(), target.data(), target.size());
    fail(path, ": is a link to '",
         std::string(target.data(), static_cast<size_t>(std::max<ssize_t>(length, 0))),
         "', which does not exist");
  }
  fail(path, ": cannot open: ", std::strerror(error));
}

void read_whole(const std::string& path, int descriptor, std::byte* data, int64_t size) {
  int64_t done = 0;
  while (done < size) {
    const ssize_t count = ::read(descriptor, data + done, static_cast<size_t>(size - done));
    if (count < 0 && errno == EINTR) continue;
    MNEME_CHECK(count >= 0, path, ": cannot read: ", std::strerror(errno));
    MNEME_CHECK(count > 0, path, ": ended after ", done, " bytes while it was read, expected ",
                size);
    done += count;
  }
}

}  // namespace

MappedFile::MappedFile(const std::string& path, Mode mode) {
  MNEME_CHECK(!path.empty(), "empty file name");
  MNEME_CHECK(path.find('\0') == std::string::npos,
              "file name with a NUL byte: ", std::string(path.c_str()), "...");
  // Asked by name first, because opening a device can have effects; asked again of the open file,
  // because the name may have changed hands in between. O_NONBLOCK keeps a FIFO from waiting.
  struct stat status = {};
  if (::stat(path.c_str(), &status) != 0) fail_to_open(path, errno);
  check_regular(path, status);
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
  if (file.get() < 0) fail_to_open(path, errno);
  MNEME_CHECK(::fstat(file.get(), &status) == 0, path, ": cannot stat: ", std::strerror(errno));
  check_regular(path, status);
  if (status.st_size == 0) return;

  const auto bytes = static_cast<size_t>(status.st_size);
  void* address = mode == Mode::kMap ? ::mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, file.get(), 0)
                                     : ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                                              MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MNEME_CHECK(address != MAP_FAILED, path, ": cannot map ", status.st_size,
              " bytes: ", std::strerror(errno));
  data_ = static_cast<const std::byte*>(address);
  size_ = status.st_size;
  mode_ = mode;
  if (mode == Mode::kCopy) {
    try {
      read_whole(path, file.get(), static_cast<std::byte*>(address), size_);
    } catch (...) {
      ::munmap(address, bytes);
      throw;
    }
    ::mprotect(address, bytes, PROT_READ);
  }
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), static_cast<size_t>(size_));
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)),
      mode_(other.mode_) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  std::swap(mode_, other.mode_);
  return *this;
}

int64_t MappedFile::release(const std::byte* data, int64_t bytes) const {
  // A file that was parsed from memory has no pages of its own.
  if (mode_ == Mode::kCopy || data_ == nullptr) return 0;
  MNEME_ASSERT(data >= data_ && bytes >= 0 && data + bytes <= data_ + size_);
  const auto page = static_cast<int64_t>(::sysconf(_SC_PAGESIZE));
  const int64_t first = (data - data_ + page - 1) / page * page;  // the mapping begins with a page
  const int64_t last = (data - data_ + bytes) / page * page;
  if (last <= first) return 0;
  std::byte* address = const_cast<std::byte*>(data_) + first;
  return ::madvise(address, static_cast<size_t>(last - first), MADV_DONTNEED) == 0 ? last - first
                                                                                   : 0;
}

}  // namespace mneme
