// The reader against good files; corrupt ones are in gguf_corrupt_test.cc.
#include "mneme/io/gguf.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <limits>

#include "tests/support/error_of.h"
#include "tests/support/gguf_builder.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::bytes_of;
using ::testing::ElementsAre;
using testing::error_of;
using testing::GgufBuilder;
using ::testing::HasSubstr;

std::unique_ptr<GgufFile> parse(const std::string& bytes) {
  return GgufFile::parse(reinterpret_cast<const std::byte*>(bytes.data()),
                         static_cast<int64_t>(bytes.size()), "m.gguf");
}

GgufBuilder with_every_type() {
  GgufBuilder builder;
  builder.pair("u8", GgufBuilder::kU8, bytes_of<uint8_t>(200))
      .pair("i8", GgufBuilder::kI8, bytes_of<int8_t>(-100))
      .pair("u16", GgufBuilder::kU16, bytes_of<uint16_t>(60'000))
      .pair("i16", GgufBuilder::kI16, bytes_of<int16_t>(-30'000))
      .pair("u32", GgufBuilder::kU32, bytes_of<uint32_t>(4'000'000'000))
      .pair("i32", GgufBuilder::kI32, bytes_of<int32_t>(-2'000'000'000))
      .pair("u64", GgufBuilder::kU64, bytes_of<uint64_t>(INT64_MAX))
      .pair("i64", GgufBuilder::kI64, bytes_of<int64_t>(INT64_MIN))
      .pair("f32", GgufBuilder::kF32, bytes_of<float>(0.5f))
      .pair("f64", GgufBuilder::kF64, bytes_of<double>(1e300))
      .boolean("yes", true)
      .boolean("no", false)
      .text("text", "größe")
      .text("empty", "")
      .array("bools", GgufBuilder::kBool, 3, std::string("\1\0\1", 3))
      .array("u8s", GgufBuilder::kU8, 2, "\x01\xff")
      .integers("i32s", {-1, 2, 3})
      .reals("f32s", {1.5f, -2.5f})
      .texts("texts", {"a", "", "bcd"})
      .texts("none", {});
  return builder;
}

TEST(Gguf, MetadataOfEveryType) {
  const auto file = parse(with_every_type().build());
  EXPECT_EQ(file->metadata().size(), 20u);
  EXPECT_EQ(file->integer("u8"), 200);
  EXPECT_EQ(file->integer("i8"), -100);
  EXPECT_EQ(file->integer("u16"), 60'000);
  EXPECT_EQ(file->integer("i16"), -30'000);
  EXPECT_EQ(file->integer("u32"), 4'000'000'000);
  EXPECT_EQ(file->integer("i32"), -2'000'000'000);
  EXPECT_EQ(file->integer("u64"), std::numeric_limits<int64_t>::max());
  EXPECT_EQ(file->integer("i64"), std::numeric_limits<int64_t>::min());
  EXPECT_EQ(file->real("f32"), 0.5);
  EXPECT_EQ(file->real("f64"), 1e300);
  EXPECT_EQ(file->real("u8"), 200.0);
  EXPECT_TRUE(file->boolean("yes"));
  EXPECT_FALSE(file->boolean("no"));
  EXPECT_EQ(file->text("text"), "größe");
  EXPECT_EQ(file->text("empty"), "");
  EXPECT_THAT(std::get<std::vector<bool>>(file->metadata().at("bools")),
              ElementsAre(true, false, true));
  EXPECT_THAT(file->integers("u8s"), ElementsAre(1, 255));
  EXPECT_THAT(file->integers("i32s"), ElementsAre(-1, 2, 3));
  EXPECT_THAT(file->reals("f32s"), ElementsAre(1.5, -2.5));
  EXPECT_THAT(file->texts("texts"), ElementsAre("a", "", "bcd"));
  EXPECT_TRUE(file->texts("none").empty());
}

TEST(Gguf, MetadataDefaultsAndWrongTypes) {
  const auto file = parse(with_every_type().build());
  EXPECT_TRUE(file->has("u8"));
  EXPECT_FALSE(file->has("missing"));
  EXPECT_EQ(file->integer_or("missing", 7), 7);
  EXPECT_EQ(file->integer_or("u8", 7), 200);
  EXPECT_EQ(file->real_or("missing", 0.25), 0.25);
  EXPECT_EQ(file->real_or("f32", 0.25), 0.5);
  EXPECT_TRUE(file->boolean_or("missing", true));
  EXPECT_FALSE(file->boolean_or("no", true));
  EXPECT_EQ(file->text_or("missing", "x"), "x");
  EXPECT_EQ(file->text_or("text", "x"), "größe");
  EXPECT_EQ(error_of([&] { file->integer("missing"); }), "m.gguf: no metadata 'missing'");
  EXPECT_EQ(error_of([&] { file->integer("text"); }),
            "m.gguf: metadata 'text' is a text, expected an integer");
  EXPECT_EQ(error_of([&] { file->integer("f32"); }),
            "m.gguf: metadata 'f32' is a real, expected an integer");
  EXPECT_EQ(error_of([&] { file->real("yes"); }),
            "m.gguf: metadata 'yes' is a bool, expected a real");
  EXPECT_EQ(error_of([&] { file->boolean("u8"); }),
            "m.gguf: metadata 'u8' is an integer, expected a bool");
  EXPECT_EQ(error_of([&] { file->texts("text"); }),
            "m.gguf: metadata 'text' is a text, expected an array of texts");
  EXPECT_EQ(error_of([&] { file->integers("f32s"); }),
            "m.gguf: metadata 'f32s' is an array of reals, expected an array of integers");
  EXPECT_EQ(error_of([&] { file->reals("texts"); }),
            "m.gguf: metadata 'texts' is an array of texts, expected an array of reals");
  EXPECT_EQ(error_of([&] { file->integer_or("text", 7); }),
            "m.gguf: metadata 'text' is a text, expected an integer");
}

TEST(Gguf, TensorsOfEveryType) {
  struct {
    uint32_t id;
    DType dtype;
    int64_t row_bytes;  // of 256 elements
  } constexpr kTypes[] = {{0, DType::kF32, 1024},  {1, DType::kF16, 512},   {2, DType::kQ4_0, 144},
                          {3, DType::kQ4_1, 160},  {6, DType::kQ5_0, 176},  {7, DType::kQ5_1, 192},
                          {8, DType::kQ8_0, 272},  {12, DType::kQ4_K, 144}, {13, DType::kQ5_K, 176},
                          {14, DType::kQ6_K, 210}, {24, DType::kI8, 256},   {25, DType::kI16, 512},
                          {26, DType::kI32, 1024}, {27, DType::kI64, 2048}, {28, DType::kF64, 2048},
                          {30, DType::kBF16, 512}};
  GgufBuilder builder;
  for (const auto& type : kTypes) {
    builder.tensor(
        concat("t", type.id), type.id, {256, 3, 2},
        std::string(static_cast<size_t>(type.row_bytes * 6), static_cast<char>(type.id)));
  }
  const std::string bytes = builder.build();
  const auto file = parse(bytes);
  ASSERT_EQ(file->tensors().size(), std::size(kTypes));
  for (const auto& type : kTypes) {
    const TensorView* tensor = file->find(concat("t", type.id));
    ASSERT_NE(tensor, nullptr) << type.id;
    EXPECT_EQ(tensor->dtype, type.dtype);
    EXPECT_THAT(tensor->shape, ElementsAre(2, 3, 256));
    ASSERT_EQ(tensor->bytes, type.row_bytes * 6);
    for (int64_t i = 0; i < tensor->bytes; ++i) {
      ASSERT_EQ(static_cast<uint32_t>(tensor->data[i]), type.id);
    }
  }
  EXPECT_EQ(file->find("t4"), nullptr);
}

TEST(Gguf, NoDimensionsAreAScalar) {
  const std::string bytes = GgufBuilder().tensor("s", 0, {}, bytes_of(2.5f)).build();
  const auto file = parse(bytes);
  EXPECT_TRUE(file->find("s")->shape.empty());
  EXPECT_EQ(file->find("s")->elements(), 1);
  EXPECT_EQ(file->find("s")->bytes, 4);
}

TEST(Gguf, TensorsMayLieInAnyOrderAndApart) {
  const std::string data(256, '\0');
  const std::string bytes =
      GgufBuilder().tensor("b", 0, {4}, data, 192).tensor("a", 0, {4}, "", 64).build();
  const auto file = parse(bytes);
  EXPECT_EQ(file->tensors()[0].name, "b");
  EXPECT_EQ(file->find("b")->data - file->find("a")->data, 128);
}

TEST(Gguf, AlignmentOfTheFile) {
  GgufBuilder builder;
  builder.alignment = 8;
  builder.integer("general.alignment", 8);
  builder.tensor("a", 24, {3}, "abc").tensor("b", 24, {3}, "def");
  const std::string bytes = builder.build();
  const auto file = parse(bytes);
  EXPECT_EQ(file->find("b")->data - file->find("a")->data, 8);
  EXPECT_EQ(static_cast<char>(file->find("b")->data[0]), 'd');
}

TEST(Gguf, VersionTwoIsTheSame) {
  GgufBuilder builder;
  builder.version = 2;
  EXPECT_EQ(parse(builder.text("k", "v").build())->text("k"), "v");
}

TEST(Gguf, AFileWithoutTensorsNeedsNoData) {
  EXPECT_TRUE(parse(GgufBuilder().build())->tensors().empty());
  EXPECT_EQ(parse(GgufBuilder().text("k", "v").build())->metadata().size(), 1u);
}

TEST(Gguf, OpensByNameInBothModes) {
  const testing::TemporaryFolder folder;
  testing::write_file(folder / "m.gguf", GgufBuilder().tensor("w", 0, {1}, bytes_of(2.5f)).build());
  for (const auto mode : {MappedFile::Mode::kMap, MappedFile::Mode::kCopy}) {
    const auto file = GgufFile::open(folder / "m.gguf", mode);
    EXPECT_EQ(file->origin(), folder / "m.gguf");
    ASSERT_NE(file->find("w"), nullptr);
    EXPECT_EQ(*reinterpret_cast<const float*>(file->find("w")->data), 2.5f);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(file->find("w")->data) % 32, 0u);
  }
  testing::write_file(folder / "bad.gguf", "PK\3\4 a zip");
  EXPECT_EQ(
      error_of([&] { GgufFile::open(folder / "bad.gguf"); }),
      (folder / "bad.gguf") + ": not a GGUF file: it begins with 'PK\\x03\\x04', expected 'GGUF'");
}

TEST(Gguf, ARealModel) {
  const char* path = std::getenv("MNEME_MODEL");
  if (path == nullptr) GTEST_SKIP() << "MNEME_MODEL does not name SmolLM2's file";
  const auto file = GgufFile::open(path);
  EXPECT_EQ(file->text("general.architecture"), "llama");
  EXPECT_EQ(file->integer("llama.block_count"), 30);
  EXPECT_EQ(file->texts("tokenizer.ggml.tokens").size(), 49152u);
  ASSERT_NE(file->find("token_embd.weight"), nullptr);
  EXPECT_THAT(file->find("token_embd.weight")->shape, ElementsAre(49152, 576));
  EXPECT_EQ(file->find("token_embd.weight")->dtype, DType::kQ8_0);
}

}  // namespace
}  // namespace mneme
