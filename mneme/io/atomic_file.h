// Writing a file so that a crash leaves the old content or the new, never a mix: a temporary file
// in the same folder, fsync, rename, fsync of the folder. Tests: atomic_file_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mneme {

class AtomicFile {
 public:
  // Creates the temporary file beside `path`. Throws Error (missing folder, no permission,
  // read-only file system).
  explicit AtomicFile(std::string path);
  // Removes the temporary file unless commit() succeeded.
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  // Appends; retries short writes and EINTR. Throws Error with the system's reason ("No space left
  // on device").
  void write(const void* data, int64_t bytes);
  // Makes the new content visible under `path`, then durable. Throws Error; when only the last step
  // failed (sync of the folder), the message says so and the new content is already visible.
  void commit();

 private:
  void check_writable() const;

  std::string path_, temporary_;
  int descriptor_ = -1;
  bool failed_ = false;  // a write failed: what is there is incomplete
};

// The whole of `text` as the new content of `path`.
void write_file_atomically(const std::string& path, std::string_view text);

}  // namespace mneme
