#include "mneme/io/mapped_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

#include "mneme/io/atomic_file.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::StartsWith;
using testing::TemporaryFolder;
using testing::write_file;

std::string_view text_of(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.data()), static_cast<size_t>(file.size())};
}

// The parameter: whether the file is copied.
class MappedFileModes : public ::testing::TestWithParam<bool> {
 protected:
  MappedFile open(const std::string& path) const {
    return MappedFile(path, GetParam() ? MappedFile::Mode::kCopy : MappedFile::Mode::kMap);
  }
  std::string refusal(const std::string& path) const {
    return error_of([&] { open(path); });
  }
  const TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(MapAndCopy, MappedFileModes, ::testing::Bool(),
                         [](const auto& mode) { return mode.param ? "Copy" : "Map"; });

TEST_P(MappedFileModes, ShowsTheWholeFile) {
  std::string content(10'000, 'x');
  content.back() = 'y';
  write_file(folder_ / "a", content);
  const MappedFile file = open(folder_ / "a");
  EXPECT_EQ(text_of(file), content);
}

TEST_P(MappedFileModes, ReleasedPagesAreReadAgain) {
  const int64_t page = ::sysconf(_SC_PAGESIZE);
  std::string content;
  for (int64_t i = 0; i < 5 * page + 9; ++i) content += static_cast<char>('a' + i % 23);
  write_file(folder_ / "a", content);
  const MappedFile file = open(folder_ / "a");
  EXPECT_EQ(text_of(file), content);
  const bool copied = GetParam();
  // Whole pages inside the range only.
  EXPECT_EQ(file.release(file.data() + 1, 3 * page), copied ? 0 : 2 * page);
  EXPECT_EQ(file.release(file.data() + 1, page), 0);
  EXPECT_EQ(file.release(file.data(), file.size()), copied ? 0 : 5 * page);
  EXPECT_EQ(text_of(file), content);
}

TEST_P(MappedFileModes, AnEmptyFileHasNoBytes) {
  write_file(folder_ / "empty", "");
  const MappedFile file = open(folder_ / "empty");
  EXPECT_EQ(file.size(), 0);
  EXPECT_EQ(file.data(), nullptr);
}

TEST_P(MappedFileModes, MovesKeepTheBytes) {
  write_file(folder_ / "a", "first");
  write_file(folder_ / "b", "second");
  MappedFile first = open(folder_ / "a");
  MappedFile moved(std::move(first));
  EXPECT_EQ(text_of(moved), "first");
  moved = open(folder_ / "b");
  EXPECT_EQ(text_of(moved), "second");
}

TEST_P(MappedFileModes, FollowsALink) {
  write_file(folder_ / "a", "text");
  ASSERT_EQ(::symlink("a", (folder_ / "link").c_str()), 0);
  EXPECT_EQ(text_of(open(folder_ / "link")), "text");
}

TEST_P(MappedFileModes, T14AMissingFileIsNamed) {
  EXPECT_THAT(refusal(folder_ / "nowhere"),
              AllOf(StartsWith(folder_ / "nowhere"), HasSubstr("No such file or directory")));
  EXPECT_EQ(refusal(""), "empty file name");
  EXPECT_THAT(refusal(std::string("/etc/passwd\0.gguf", 17)), HasSubstr("NUL byte"));
}

TEST_P(MappedFileModes, T14AFolderIsRefused) {
  EXPECT_EQ(refusal(folder_.path()), folder_.path() + ": is a folder, expected a regular file");
}

TEST_P(MappedFileModes, T14AFifoIsRefusedWithoutWaitingForAWriter) {
  ASSERT_EQ(::mkfifo((folder_ / "fifo").c_str(), 0600), 0);
  EXPECT_THAT(refusal(folder_ / "fifo"), HasSubstr("is a FIFO"));
}

TEST_P(MappedFileModes, T14ADeviceIsRefused) {
  EXPECT_EQ(refusal("/dev/zero"), "/dev/zero: is a device, expected a regular file");
}

TEST_P(MappedFileModes, T14ASocketIsRefused) {
  const int descriptor = ::socket(AF_UNIX, SOCK_STREAM, 0);
  sockaddr_un address = {};
  address.sun_family = AF_UNIX;
  const std::string path = folder_ / "socket";
  ASSERT_LT(path.size(), sizeof(address.sun_path));
  std::memcpy(address.sun_path, path.data(), path.size());
  ASSERT_EQ(::bind(descriptor, reinterpret_cast<sockaddr*>(&address), sizeof(address)), 0);
  EXPECT_THAT(refusal(path), HasSubstr("is a socket"));
  ::close(descriptor);
}

TEST_P(MappedFileModes, T14ADanglingLinkNamesItsTarget) {
  ASSERT_EQ(::symlink("gone.gguf", (folder_ / "link").c_str()), 0);
  EXPECT_EQ(refusal(folder_ / "link"),
            (folder_ / "link") + ": is a link to 'gone.gguf', which does not exist");
  ASSERT_EQ(::symlink("circle", (folder_ / "circle").c_str()), 0);
  EXPECT_THAT(refusal(folder_ / "circle"), HasSubstr("Too many levels of symbolic links"));
}

TEST_P(MappedFileModes, T14AnUnreadableFileIsRefused) {
  write_file(folder_ / "secret", "text");
  ASSERT_EQ(::chmod((folder_ / "secret").c_str(), 0), 0);
  ASSERT_EQ(::chmod(folder_.path().c_str(), 0755), 0);
  // Root may read anything, so the test puts it aside for the call.
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const std::string message = refusal(folder_ / "secret");
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  EXPECT_EQ(message, (folder_ / "secret") + ": cannot open: Permission denied");
}

TEST(MappedFile, T13ACopySurvivesTruncation) {
  const TemporaryFolder folder;
  const std::string content(20'000, 'x');
  write_file(folder / "a", content);
  const MappedFile file(folder / "a", MappedFile::Mode::kCopy);
  ASSERT_EQ(::truncate((folder / "a").c_str(), 0), 0);
  EXPECT_EQ(text_of(file), content);
}

TEST(MappedFile, T13AMapSurvivesReplacement) {
  const TemporaryFolder folder;
  const std::string content(20'000, 'x');
  write_file(folder / "a", content);
  const MappedFile file(folder / "a", MappedFile::Mode::kMap);
  write_file_atomically(folder / "a", "shorter");
  EXPECT_EQ(text_of(file), content);
}

// The documented price of sharing pages: a fatal signal at once, not wrong bytes.
TEST(MappedFileDeathTest, T13ReadingATruncatedMapIsFatal) {
  const TemporaryFolder folder;
  write_file(folder / "a", std::string(20'000, 'x'));
  EXPECT_DEATH(
      {
        const MappedFile file(folder / "a", MappedFile::Mode::kMap);
        if (::truncate((folder / "a").c_str(), 0) != 0) std::exit(0);
        if (text_of(file).back() == 'x') std::exit(0);
      },
      "");
}

}  // namespace
}  // namespace mneme
