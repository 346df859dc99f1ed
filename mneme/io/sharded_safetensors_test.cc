#include "mneme/io/sharded_safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::write_file;

class ShardedSafetensorsTest : public ::testing::Test {
 protected:
  ShardedSafetensorsTest() {
    write_shard("one.safetensors", {"a", "b"});
    write_shard("two.safetensors", {"c"});
  }

  void write_shard(const std::string& name, const std::vector<std::string>& tensors) const {
    static const uint8_t kBytes[] = {1, 2, 3, 4};
    std::vector<TensorView> views;
    for (const std::string& tensor : tensors) {
      views.push_back({tensor, DType::kU8, {4}, reinterpret_cast<const std::byte*>(kBytes), 4});
    }
    write_safetensors(folder_ / name, views, {});
  }

  std::unique_ptr<ShardedSafetensors> open(const std::string& index) const {
    write_file(index_, index);
    return ShardedSafetensors::open(index_);
  }

  // The message for an index that maps c to `shard`, a JSON value.
  std::string refusal_of_shard(const std::string& shard) const {
    return refusal(R"({"weight_map":{"c":)" + shard + "}}");
  }
  std::string refusal(const std::string& index) const {
    return error_of([&] { open(index); });
  }

  const testing::TemporaryFolder folder_;
  const std::string index_ = folder_ / "model.safetensors.index.json";
};

constexpr const char* kGoodIndex = R"({"metadata":{"total_size":12,"more":[{"deep":null}]},
  "weight_map":{"c":"two.safetensors","a":"one.safetensors","b":"one.safetensors"}})";

TEST_F(ShardedSafetensorsTest, FindsTensorsOfAllShards) {
  const auto model = open(kGoodIndex);
  EXPECT_EQ(model->shard_count(), 2u);
  EXPECT_EQ(model->origin(), index_);
  ASSERT_EQ(model->tensors().size(), 3u);
  EXPECT_EQ(model->tensors()[0].name, "a");
  EXPECT_EQ(model->tensors()[2].name, "c");
  ASSERT_NE(model->find("c"), nullptr);
  EXPECT_EQ(static_cast<int>(model->find("c")->data[3]), 4);
  EXPECT_EQ(model->find("d"), nullptr);
}

TEST_F(ShardedSafetensorsTest, AShardMayBeALinkIntoADownloadCache) {
  ASSERT_EQ(::rename((folder_ / "two.safetensors").c_str(), (folder_ / "blob").c_str()), 0);
  ASSERT_EQ(::symlink("blob", (folder_ / "two.safetensors").c_str()), 0);
  EXPECT_NE(open(kGoodIndex)->find("c"), nullptr);
}

TEST_F(ShardedSafetensorsTest, T15MissingShard) {
  EXPECT_EQ(refusal_of_shard(R"("gone.safetensors")"),
            (folder_ / "gone.safetensors") + ": cannot open: No such file or directory");
}

TEST_F(ShardedSafetensorsTest, T15PathsOutOfTheFolder) {
  const std::string reason = " must be the plain name of a file beside the index";
  for (const char* name : {"../two.safetensors", "/etc/passwd", "sub/two.safetensors", ".", "..",
                           "", "./two.safetensors"}) {
    EXPECT_EQ(refusal_of_shard(concat('"', name, '"')),
              concat(index_, ": tensor 'c': shard '", name, "'", reason));
  }
  EXPECT_THAT(refusal_of_shard(R"("..\\x")"), HasSubstr(reason));
  EXPECT_THAT(refusal_of_shard(R"("two.safetensors\u0000")"), HasSubstr(reason));
  EXPECT_THAT(refusal_of_shard(R"("a\nb")"), HasSubstr("shard 'a\\x0ab' must be"));
}

TEST_F(ShardedSafetensorsTest, T15AFolderAsShard) {
  ASSERT_EQ(::system(("mkdir " + (folder_ / "sub")).c_str()), 0);
  EXPECT_THAT(refusal_of_shard(R"("sub")"), HasSubstr("is a folder, expected a regular file"));
}

TEST_F(ShardedSafetensorsTest, T15TensorNotInItsShard) {
  EXPECT_EQ(refusal(R"({"weight_map":{"c":"two.safetensors","d":"two.safetensors"}})"),
            index_ + ": tensor 'd' is not in its shard 'two.safetensors'");
  EXPECT_EQ(refusal(R"({"weight_map":{"a":"one.safetensors","b":"two.safetensors"}})"),
            (folder_ / "one.safetensors") +
                ": tensor 'b' belongs into shard 'two.safetensors' by the index");
}

TEST_F(ShardedSafetensorsTest, TensorThatTheIndexDoesNotKnow) {
  EXPECT_EQ(refusal(R"({"weight_map":{"a":"one.safetensors"}})"),
            (folder_ / "one.safetensors") + ": tensor 'b' is not in the index " + index_);
}

TEST_F(ShardedSafetensorsTest, CorruptShardIsNamed) {
  write_file(folder_ / "two.safetensors", "short");
  EXPECT_THAT(refusal(kGoodIndex), HasSubstr("two.safetensors: header too small"));
}

TEST_F(ShardedSafetensorsTest, CorruptIndex) {
  EXPECT_EQ(refusal("{}"), index_ + ": no weight_map");
  EXPECT_EQ(refusal("[]"), index_ + ": no weight_map");
  EXPECT_THAT(refusal(""), HasSubstr(": not JSON: unexpected"));
  EXPECT_THAT(refusal("{\"weight_map\":{"), HasSubstr(": not JSON: unexpected"));
  EXPECT_THAT(refusal(std::string("{}\0{", 4)), HasSubstr(": not JSON: a NUL byte at 2"));
  EXPECT_EQ(refusal("{\"\xff\":1}"), index_ + ": not UTF-8");
  EXPECT_EQ(refusal(R"({"weight_map":"x"})"), index_ + ": weight_map must be an object, got text");
  EXPECT_EQ(refusal(R"({"weight_map":[{"a":"one.safetensors"}]})"),
            index_ + ": weight_map must be an object, got an array");
  EXPECT_EQ(refusal(R"({"x":{"weight_map":{"c":"two.safetensors"}}})"), index_ + ": no weight_map");
  EXPECT_EQ(refusal(R"({"weight_map":{},"weight_map":{}})"), index_ + ": duplicate weight_map");
  EXPECT_EQ(refusal_of_shard("7"),
            index_ + ": tensor 'c': expected the name of a file, got a number");
  EXPECT_EQ(refusal_of_shard("{}"),
            index_ + ": tensor 'c': expected the name of a file, got an object");
  EXPECT_EQ(refusal(R"({"weight_map":{"c":"two.safetensors","c":"two.safetensors"}})"),
            index_ + ": duplicate tensor 'c'");
  EXPECT_EQ(refusal("{\"x\":" + std::string(10'000, '[')), index_ + ": nested deeper than 64");
}

}  // namespace
}  // namespace mneme
