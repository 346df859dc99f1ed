#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <limits>

#include "mneme/core/rng.h"
#include "mneme/io/safetensors.h"
#include "tests/support/error_of.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::read_file;

class WriteSafetensors : public ::testing::Test {
 protected:
  // A view of random bytes that live as long as the test.
  TensorView tensor(std::string name, DType dtype, std::vector<int64_t> shape) {
    int64_t bytes = dtype_info(dtype).block_bytes;
    for (const int64_t extent : shape) bytes *= extent;
    auto& data = storage_.emplace_back(static_cast<size_t>(bytes) + 1);
    for (std::byte& byte : data) byte = static_cast<std::byte>(rng_.next());
    return {std::move(name), dtype, std::move(shape), data.data(), bytes};
  }

  std::string refusal(const std::vector<TensorView>& tensors,
                      const std::map<std::string, std::string>& metadata = {}) const {
    const std::string message = error_of([&] { write_safetensors(path_, tensors, metadata); });
    EXPECT_TRUE(folder_.names().empty());
    return message;
  }

  const testing::TemporaryFolder folder_;
  const std::string path_ = folder_ / "m.safetensors";
  Rng rng_{7};
  std::vector<std::vector<std::byte>> storage_;
};

TEST_F(WriteSafetensors, RoundTripOfEveryDtypeAndOddShape) {
  const DType kTypes[] = {DType::kU8,   DType::kBool, DType::kF16, DType::kF64, DType::kI8,
                          DType::kBF16, DType::kI16,  DType::kU16, DType::kF32, DType::kI32,
                          DType::kU32,  DType::kI64,  DType::kU64};
  const std::vector<int64_t> kShapes[] = {{}, {0}, {1}, {63}, {3, 5}, {2, 0, 7}, {1, 1, 1, 1, 3}};
  std::vector<TensorView> tensors;
  for (const DType dtype : kTypes) {
    for (const auto& shape : kShapes) {
      tensors.push_back(tensor(concat("t", tensors.size()), dtype, shape));
    }
  }
  const std::map<std::string, std::string> metadata = {
      {"format", "pt"}, {"", "empty key"}, {"quoted \"\\\n", "\x01 \xc3\xa4 \xf0\x9f\x98\x80"}};
  write_safetensors(path_, tensors, metadata);

  const auto file = SafetensorsFile::open(path_);
  EXPECT_EQ(file->metadata(), metadata);
  ASSERT_EQ(file->tensors().size(), tensors.size());
  for (const TensorView& want : tensors) {
    const TensorView* got = file->find(want.name);
    ASSERT_NE(got, nullptr) << want.name;
    EXPECT_EQ(got->dtype, want.dtype);
    EXPECT_EQ(got->shape, want.shape);
    ASSERT_EQ(got->bytes, want.bytes);
    EXPECT_EQ(std::memcmp(got->data, want.data, static_cast<size_t>(want.bytes)), 0) << want.name;
    // Pages are aligned, so this says that the offset in the file is.
    EXPECT_EQ(reinterpret_cast<uintptr_t>(got->data) % dtype_info(got->dtype).block_bytes, 0u);
  }
}

// The bytes themselves: what any other reader of the format sees.
TEST_F(WriteSafetensors, TheFormatByteForByte) {
  const float one = 1;
  const uint8_t two = 2;
  write_safetensors(path_,
                    {{"b", DType::kU8, {1}, reinterpret_cast<const std::byte*>(&two), 1},
                     {"a", DType::kF32, {}, reinterpret_cast<const std::byte*>(&one), 4}},
                    {{"k", "v"}});
  const std::string header =
      "{\"__metadata__\":{\"k\":\"v\"},\"a\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[0,4]"
      "},"
      "\"b\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[4,5]}}      ";
  ASSERT_EQ(header.size(), 136u);
  std::string want(8, '\0');
  want[0] = static_cast<char>(header.size());
  want += header;
  want += std::string("\x00\x00\x80\x3f\x02", 5);
  EXPECT_EQ(read_file(path_), want);
}

TEST_F(WriteSafetensors, NothingAtAll) {
  write_safetensors(path_, {}, {});
  EXPECT_EQ(read_file(path_), std::string("\x08\0\0\0\0\0\0\0{}      ", 16));
  EXPECT_TRUE(SafetensorsFile::open(path_)->tensors().empty());
}

TEST_F(WriteSafetensors, BadNamesAreRefused) {
  EXPECT_EQ(refusal({tensor("", DType::kF32, {1})}),
            path_ + ": tensor '': expected a name in UTF-8 that is not empty and not __metadata__");
  EXPECT_THAT(refusal({tensor("__metadata__", DType::kF32, {1})}), HasSubstr("not __metadata__"));
  EXPECT_THAT(refusal({tensor("\xff", DType::kF32, {1})}), HasSubstr("tensor '\\xff': expected"));
  EXPECT_EQ(refusal({tensor("a", DType::kF32, {1}), tensor("a", DType::kI8, {2})}),
            path_ + ": duplicate tensor 'a'");
  EXPECT_EQ(refusal({}, {{"key", "\xff"}}), path_ + ": metadata 'key' is not UTF-8");
}

TEST_F(WriteSafetensors, BadTensorsAreRefused) {
  TensorView view = tensor("w", DType::kF32, {2});
  view.shape = {3};
  EXPECT_EQ(refusal({view}), path_ + ": tensor 'w': F32 [3] takes 12 bytes, got 8");
  view.shape = {-2};
  EXPECT_EQ(refusal({view}), path_ + ": tensor 'w': negative extent in shape [-2]");
  view.shape = {std::numeric_limits<int64_t>::max(), 2};
  EXPECT_THAT(refusal({view}), HasSubstr("size overflow"));
  view = {"w", DType::kQ8_0, {32}, view.data, 34};
  EXPECT_EQ(refusal({view}), path_ + ": tensor 'w': safetensors has no dtype Q8_0");
  view = {"w", DType::kF32, {1}, nullptr, 4};
  EXPECT_EQ(refusal({view}), path_ + ": tensor 'w': no data");
}

TEST_F(WriteSafetensors, ARefusalKeepsTheOldFile) {
  write_safetensors(path_, {}, {{"old", "1"}});
  EXPECT_THAT(error_of([&] {
                write_safetensors(path_, {}, {{"new", "\xff"}});
              }),
              HasSubstr("not UTF-8"));
  EXPECT_TRUE(SafetensorsFile::open(path_)->metadata().contains("old"));
  EXPECT_EQ(error_of([&] { write_safetensors(folder_ / "no/m.safetensors", {}, {}); }),
            "cannot write " + (folder_ / "no/m.safetensors") + ": No such file or directory");
}

}  // namespace
}  // namespace mneme
