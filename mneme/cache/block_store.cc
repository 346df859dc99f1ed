#include "mneme/cache/block_store.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <new>
#include <vector>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"

namespace mneme {
namespace {

constexpr int64_t kAlignment = 64;
// Blocks that a file grows by.
constexpr int64_t kExtentBlocks = 64;

class MemoryStore final : public BlockStore {
 public:
  explicit MemoryStore(int64_t block_bytes) : BlockStore(block_bytes) {}
  std::shared_ptr<std::byte> allocate() override {
    void* block = ::operator new (static_cast<size_t>(block_bytes()), std::align_val_t{kAlignment});
    return {static_cast<std::byte*>(block),
            [](std::byte* bytes) { ::operator delete (bytes, std::align_val_t{kAlignment}); }};
  }
  int64_t resident_block_bytes() const override { return block_bytes(); }
};

// The file, kept open and mapped until the store and the last block are gone.
class MappedBlocks {
 public:
  MappedBlocks(const std::string& folder, int64_t block_bytes)
      : folder_(folder),
        stride_(checked_round_up(block_bytes, kAlignment, "block store")),
        extent_bytes_(checked_round_up(checked_mul(stride_, kExtentBlocks, "block store"),
                                       sysconf(_SC_PAGESIZE), "block store")) {
    std::string path = folder + "/mneme-blocks-XXXXXX";
    descriptor_ = mkostemp(path.data(), O_CLOEXEC);
    MNEME_CHECK(descriptor_ >= 0, "block store: no file can be made in '", folder,
                "': ", std::strerror(errno));
    unlink(path.c_str());
  }
  ~MappedBlocks() {
    for (std::byte* extent : extents_) munmap(extent, static_cast<size_t>(extent_bytes_));
    close(descriptor_);
  }
  MappedBlocks(const MappedBlocks&) = delete;
  MappedBlocks& operator=(const MappedBlocks&) = delete;

  std::byte* take() {
    const std::lock_guard lock(mutex_);
    if (free_.empty()) grow();
    std::byte* const block = free_.back();
    free_.pop_back();
    return block;
  }
  void give_back(std::byte* block) {
    const std::lock_guard lock(mutex_);
    free_.push_back(block);  // has room: grow() reserves for every block there is
  }
  void release_pages() {
    const std::lock_guard lock(mutex_);
    for (std::byte* extent : extents_)
      madvise(extent, static_cast<size_t>(extent_bytes_), MADV_DONTNEED);
  }
  int64_t bytes() const {
    const std::lock_guard lock(mutex_);
    return std::ssize(extents_) * extent_bytes_;
  }

 private:
  void grow() {
    const int64_t end = std::ssize(extents_) * extent_bytes_;
    // A sparse file would turn a full disk into a fatal signal at the first write.
    const int error = posix_fallocate(descriptor_, end, extent_bytes_);
    MNEME_CHECK(error == 0, "block store: the file in '", folder_, "' cannot grow to ",
                end + extent_bytes_, " bytes: ", std::strerror(error));
    free_.reserve(static_cast<size_t>((std::ssize(extents_) + 1) * kExtentBlocks));
    extents_.reserve(extents_.size() + 1);
    void* mapped = mmap(nullptr, static_cast<size_t>(extent_bytes_), PROT_READ | PROT_WRITE,
                        MAP_SHARED, descriptor_, end);
    MNEME_CHECK(mapped != MAP_FAILED, "block store: cannot map the file in '", folder_,
                "': ", std::strerror(errno));
    extents_.push_back(static_cast<std::byte*>(mapped));
    for (int64_t i = kExtentBlocks - 1; i >= 0; --i) free_.push_back(extents_.back() + i * stride_);
  }

  std::string folder_;
  int64_t stride_, extent_bytes_;
  int descriptor_ = -1;
  mutable std::mutex mutex_;
  std::vector<std::byte*> extents_, free_;
};

class FileStore final : public BlockStore {
 public:
  FileStore(const std::string& folder, int64_t block_bytes)
      : BlockStore(block_bytes), blocks_(std::make_shared<MappedBlocks>(folder, block_bytes)) {}
  std::shared_ptr<std::byte> allocate() override {
    return {blocks_->take(), [blocks = blocks_](std::byte* block) { blocks->give_back(block); }};
  }
  void release_pages() override { blocks_->release_pages(); }
  int64_t resident_block_bytes() const override { return 0; }
  int64_t file_bytes() const override { return blocks_->bytes(); }

 private:
  std::shared_ptr<MappedBlocks> blocks_;
};

}  // namespace

BlockStore::BlockStore(int64_t block_bytes) : block_bytes_(block_bytes) {
  MNEME_CHECK(block_bytes > 0, "block store: a block needs at least one byte, got ", block_bytes);
}

std::shared_ptr<BlockStore> BlockStore::in_memory(int64_t block_bytes) {
  return std::make_shared<MemoryStore>(block_bytes);
}

std::shared_ptr<BlockStore> BlockStore::in_file(const std::string& folder, int64_t block_bytes) {
  return std::make_shared<FileStore>(folder.empty() ? default_folder() : folder, block_bytes);
}

std::string BlockStore::default_folder() { return std::filesystem::temp_directory_path().string(); }

}  // namespace mneme
