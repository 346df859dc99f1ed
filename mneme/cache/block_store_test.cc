#include "mneme/cache/block_store.h"

#include <gtest/gtest.h>

#include <cstring>
#include <set>
#include <vector>

#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::TemporaryFolder;

std::vector<std::shared_ptr<BlockStore>> both(const TemporaryFolder& folder, int64_t bytes) {
  return {BlockStore::in_memory(bytes), BlockStore::in_file(folder.path(), bytes)};
}

TEST(BlockStore, BlocksKeepWhatIsWrittenIntoThem) {
  const TemporaryFolder folder;
  for (const int64_t bytes : {1, 63, 1000, 5000}) {
    for (const auto& store : both(folder, bytes)) {
      std::vector<std::shared_ptr<std::byte>> blocks;
      for (int i = 0; i < 150; ++i) {  // more than one extent
        blocks.push_back(store->allocate());
        EXPECT_EQ(reinterpret_cast<uintptr_t>(blocks.back().get()) % 64, 0u);
        std::memset(blocks.back().get(), i, static_cast<size_t>(bytes));
      }
      store->release_pages();
      for (int i = 0; i < 150; ++i) {
        for (int64_t at = 0; at < bytes; ++at)
          ASSERT_EQ(blocks[static_cast<size_t>(i)].get()[at], static_cast<std::byte>(i));
      }
    }
  }
}

TEST(BlockStore, RoomIsUsedAgainOnceNobodyHoldsIt) {
  const TemporaryFolder folder;
  const auto store = BlockStore::in_file(folder.path(), 4096);
  std::vector<std::shared_ptr<std::byte>> blocks;
  for (int i = 0; i < 64; ++i) blocks.push_back(store->allocate());
  const int64_t size = store->file_bytes();
  const std::set<std::byte*> used = [&] {
    std::set<std::byte*> all;
    for (const auto& block : blocks) all.insert(block.get());
    return all;
  }();
  EXPECT_EQ(used.size(), 64u);
  const auto shared = blocks[5];
  blocks.clear();
  for (int i = 0; i < 63; ++i) {
    blocks.push_back(store->allocate());
    EXPECT_NE(blocks.back(), shared);
    EXPECT_TRUE(used.contains(blocks.back().get()));
  }
  EXPECT_EQ(store->file_bytes(), size);
  blocks.push_back(store->allocate());
  EXPECT_EQ(store->file_bytes(), 2 * size);
}

TEST(BlockStore, TheFileHasNoNameAndOutlivesTheStoreOnlyWithItsBlocks) {
  const TemporaryFolder folder;
  auto store = BlockStore::in_file(folder.path(), 100);
  const auto block = store->allocate();
  EXPECT_TRUE(folder.names().empty());
  EXPECT_EQ(store->resident_block_bytes(), 0);
  EXPECT_GE(store->file_bytes(), 64 * 128);
  store.reset();
  std::memset(block.get(), 7, 100);
  EXPECT_EQ(block.get()[99], std::byte{7});
}

TEST(BlockStore, RefusesBadInput) {
  EXPECT_EQ(error_of([] { BlockStore::in_memory(0); }),
            "block store: a block needs at least one byte, got 0");
  EXPECT_EQ(error_of([] { BlockStore::in_file("/nowhere/at/all", 8); }),
            "block store: no file can be made in '/nowhere/at/all': No such file or directory");
}

}  // namespace
}  // namespace mneme
