#include "mneme/io/atomic_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <optional>
#include <thread>
#include <vector>

#include "mneme/core/error.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using testing::error_of;
using ::testing::HasSubstr;
using testing::read_file;
using testing::TemporaryFolder;
using testing::write_file;

// Files of this process may not grow beyond `bytes`: what a full disk or a quota looks like.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) : handler_(std::signal(SIGXFSZ, SIG_IGN)) {
    ::getrlimit(RLIMIT_FSIZE, &old_);
    rlimit limit = old_;
    limit.rlim_cur = bytes;
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &old_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  void (*handler_)(int);
  rlimit old_ = {};
};

// Runs `body` in a child process with a file system of 64 KiB mounted on `folder`, in a name space
// that nobody else sees, and returns the text it made; nothing where the system forbids that.
template <typename Body>
std::optional<std::string> on_a_tiny_disk(const std::string& folder, unsigned long flags,
                                          Body body) {
  constexpr int kForbidden = 77;
  int ends[2];
  if (::pipe(ends) != 0) return std::nullopt;
  const std::string user = concat("0 ", ::geteuid(), " 1"), group = concat("0 ", ::getegid(), " 1");
  const pid_t child = ::fork();
  if (child == 0) {
    const char* type = "tmpfs";
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) ::_exit(kForbidden);
    try {
      write_file("/proc/self/uid_map", user);
      write_file("/proc/self/setgroups", "deny");
      write_file("/proc/self/gid_map", group);
    } catch (const std::exception&) {
      ::_exit(kForbidden);
    }
    if (::mount(type, folder.c_str(), type, 0, "size=64k") != 0 ||
        ::mount(type, folder.c_str(), type, MS_REMOUNT | flags, "size=64k") != 0) {
      ::_exit(kForbidden);
    }
    std::string text;
    try {
      text = body();
    } catch (const std::exception& error) {
      text = concat("not expected: ", error.what());
    }
    const ssize_t sent = ::write(ends[1], text.data(), text.size());
    ::_exit(sent == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(ends[1]);
  std::string text(4096, ' ');
  const ssize_t length = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  if (WIFEXITED(status) && WEXITSTATUS(status) == kForbidden) return std::nullopt;
  text.resize(length > 0 ? static_cast<size_t>(length) : 0);
  return concat(text, "|status ", status);
}

class AtomicFileTest : public ::testing::Test {
 protected:
  const TemporaryFolder folder_;
  const std::string path_ = folder_ / "state";
};

TEST_F(AtomicFileTest, CreatesAndReplaces) {
  write_file_atomically(path_, "one");
  EXPECT_EQ(read_file(path_), "one");
  write_file_atomically(path_, "");
  EXPECT_EQ(read_file(path_), "");
  EXPECT_THAT(folder_.names(), ElementsAre("state"));
}

TEST_F(AtomicFileTest, NothingIsVisibleBeforeCommit) {
  write_file(path_, "old");
  AtomicFile file(path_);
  file.write("new, ", 5);
  file.write("in pieces", 9);
  EXPECT_EQ(read_file(path_), "old");
  file.commit();
  EXPECT_EQ(read_file(path_), "new, in pieces");
  EXPECT_THAT(error_of([&] { file.write("more", 4); }), HasSubstr("already committed"));
  EXPECT_THAT(error_of([&] { file.commit(); }), HasSubstr("already committed"));
}

TEST_F(AtomicFileTest, AnAbandonedWriteLeavesTheOldFileAndNothingElse) {
  write_file(path_, "old");
  { AtomicFile(path_).write("half", 4); }
  EXPECT_EQ(read_file(path_), "old");
  EXPECT_THAT(folder_.names(), ElementsAre("state"));
}

TEST_F(AtomicFileTest, AFullDiskLeavesTheOldFileAndNothingElse) {
  write_file(path_, "old");
  std::string message;
  {
    const FileSizeLimit limit(4096);
    message = error_of([&] { write_file_atomically(path_, std::string(10'000, 'x')); });
  }
  EXPECT_EQ(message, "cannot write " + path_ + ": File too large");
  EXPECT_EQ(read_file(path_), "old");
  EXPECT_THAT(folder_.names(), ElementsAre("state"));
}

TEST_F(AtomicFileTest, NoSpaceLeftKeepsTheOldFile) {
  const auto text = on_a_tiny_disk(folder_.path(), 0, [this] {
    write_file_atomically(path_, "old");
    const std::string message =
        error_of([&] { write_file_atomically(path_, std::string(200'000, 'x')); });
    return message + "|" + read_file(path_) + concat("|", folder_.names().size());
  });
  if (!text) GTEST_SKIP() << "no mount name spaces for this user";
  EXPECT_EQ(*text, "cannot write " + path_ + ": No space left on device|old|1|status 0");
}

TEST_F(AtomicFileTest, AReadOnlyFileSystemIsRefused) {
  const auto text = on_a_tiny_disk(folder_.path(), MS_RDONLY, [this] {
    return error_of([&] { write_file_atomically(path_, "new"); });
  });
  if (!text) GTEST_SKIP() << "no mount name spaces for this user";
  EXPECT_EQ(*text, "cannot write " + path_ + ": Read-only file system|status 0");
}

TEST_F(AtomicFileTest, AFailedWriteCannotBeCommitted) {
  write_file(path_, "old");
  {
    AtomicFile file(path_);
    {
      const FileSizeLimit limit(4096);
      EXPECT_THAT(error_of([&] { file.write(std::string(10'000, 'x').data(), 10'000); }),
                  HasSubstr("File too large"));
    }
    EXPECT_THAT(error_of([&] { file.write("tail", 4); }), HasSubstr("an earlier write failed"));
    EXPECT_THAT(error_of([&] { file.commit(); }), HasSubstr("an earlier write failed"));
  }
  EXPECT_EQ(read_file(path_), "old");
  EXPECT_THAT(folder_.names(), ElementsAre("state"));
}

TEST_F(AtomicFileTest, AFolderWithoutWritePermissionIsRefused) {
  ASSERT_EQ(::chmod(folder_.path().c_str(), 0555), 0);
  // Root may write anywhere, so the test puts it aside for the call.
  const bool root = ::geteuid() == 0;
  if (root) {
    ASSERT_EQ(::seteuid(65534), 0);
  }
  const std::string message = error_of([&] { AtomicFile file(path_); });
  if (root) {
    ASSERT_EQ(::seteuid(0), 0);
  }
  ::chmod(folder_.path().c_str(), 0755);
  EXPECT_EQ(message, "cannot write " + path_ + ": Permission denied");
}

TEST_F(AtomicFileTest, BadPathsAreRefusedWithTheReason) {
  const auto refusal = [](const std::string& path) {
    return error_of([&] { AtomicFile file(path); });
  };
  EXPECT_EQ(refusal(folder_ / "no/where"),
            "cannot write " + (folder_ / "no/where") + ": No such file or directory");
  write_file(path_, "a file");
  EXPECT_THAT(refusal(path_ + "/below"), EndsWith(": Not a directory"));
  EXPECT_THAT(refusal(folder_.path()), EndsWith("it exists and is not a regular file"));
  EXPECT_THAT(refusal("/dev/full"), EndsWith("it exists and is not a regular file"));
  EXPECT_THAT(refusal(folder_ / ""), HasSubstr("expected the name of a file"));
  EXPECT_THAT(refusal(""), HasSubstr("expected the name of a file"));
  EXPECT_THAT(refusal(std::string("a\0b", 3)), HasSubstr("NUL byte"));
  EXPECT_THAT(folder_.names(), ElementsAre("state"));
}

TEST_F(AtomicFileTest, ATargetThatBecameAFolderIsRefusedAtCommit) {
  {
    AtomicFile file(path_);
    file.write("text", 4);
    ASSERT_EQ(::mkdir(path_.c_str(), 0700), 0);
    EXPECT_EQ(error_of([&] { file.commit(); }), "cannot write " + path_ + ": Is a directory");
  }
  EXPECT_THAT(folder_.names(), ElementsAre("state"));
}

TEST_F(AtomicFileTest, ANameAsLongAsTheFileSystemAllows) {
  const std::string name(255, 'n');
  write_file_atomically(folder_ / name, "text");
  EXPECT_THAT(folder_.names(), ElementsAre(name));
}

TEST_F(AtomicFileTest, KeepsTheModeOfAPrivateFile) {
  write_file(path_, "old");
  ASSERT_EQ(::chmod(path_.c_str(), 0600), 0);
  write_file_atomically(path_, "new");
  struct stat status = {};
  ASSERT_EQ(::stat(path_.c_str(), &status), 0);
  EXPECT_EQ(status.st_mode & 0777, 0600u);
}

TEST_F(AtomicFileTest, ALinkIsReplacedNotWrittenThrough) {
  write_file(folder_ / "target", "untouched");
  ASSERT_EQ(::symlink("target", path_.c_str()), 0);
  write_file_atomically(path_, "new");
  EXPECT_EQ(read_file(folder_ / "target"), "untouched");
  EXPECT_EQ(read_file(path_), "new");
}

TEST_F(AtomicFileTest, WritersAtOnceNeverMix) {
  std::vector<std::thread> writers;
  for (const char letter : {'a', 'b', 'c', 'd'}) {
    writers.emplace_back([this, letter] {
      for (int i = 0; i < 20; ++i) write_file_atomically(path_, std::string(5000, letter));
    });
  }
  for (int i = 0; i < 200; ++i) {
    if (::access(path_.c_str(), F_OK) != 0) continue;
    const std::string seen = read_file(path_);
    ASSERT_EQ(seen, std::string(5000, seen.at(0)));
  }
  for (std::thread& writer : writers) writer.join();
  EXPECT_THAT(folder_.names(), ElementsAre("state"));
}

}  // namespace
}  // namespace mneme
