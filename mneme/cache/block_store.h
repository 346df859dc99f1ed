// Room for blocks of one size that live as long as somebody holds them: in memory, or in a file of
// its own that is mapped, so that what is not being read need not be in memory at all. The file is
// made in a folder, loses its name at once, and its space goes back to the system with the store,
// after a crash too. Forks share blocks by sharing their pointers. Tests: block_store_test.cc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace mneme {

class BlockStore {
 public:
  virtual ~BlockStore() = default;

  // block_bytes > 0 each.
  static std::shared_ptr<BlockStore> in_memory(int64_t block_bytes);
  // An empty folder is default_folder(). Throws Error naming the folder when no file can be made there.
  static std::shared_ptr<BlockStore> in_file(const std::string& folder, int64_t block_bytes);
  // Where files go that nobody names a folder for: TMPDIR, or the system's.
  static std::string default_folder();

  // One block, 64-byte aligned, contents undefined; its room is used again once nobody holds it.
  // Throws Error with the system's reason when there is no space. Thread-safe.
  virtual std::shared_ptr<std::byte> allocate() = 0;
  // Takes the mapped pages of every block out of this process; they come back where they are read.
  virtual void release_pages() {}

  int64_t block_bytes() const { return block_bytes_; }
  // Bytes of memory that every block takes as long as it is held: 0 in a file.
  virtual int64_t resident_block_bytes() const = 0;
  // Size of the file; 0 without one.
  virtual int64_t file_bytes() const { return 0; }

 protected:
  explicit BlockStore(int64_t block_bytes);

 private:
  int64_t block_bytes_;
};

}  // namespace mneme
