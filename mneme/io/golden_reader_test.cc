// The reader of golden files: on files made here, then on every real one of the folder.
#include <gmock/gmock.h>
#include <gtest/gtest-spi.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <limits>

#include "mneme/core/half.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using testing::error_of;
using testing::expect_close;
using testing::GoldenFile;
using ::testing::HasSubstr;

// Points MNEME_GOLDEN_DIR at a folder of the test.
class GoldenFolder {
 public:
  GoldenFolder() {
    if (const char* old = std::getenv(kName)) old_ = old;
    ::setenv(kName, folder_.path().c_str(), 1);
  }
  ~GoldenFolder() { old_.empty() ? ::unsetenv(kName) : ::setenv(kName, old_.c_str(), 1); }
  std::string operator/(const char* name) const { return folder_ / name; }

 private:
  static constexpr const char* kName = "MNEME_GOLDEN_DIR";
  const testing::TemporaryFolder folder_;
  std::string old_;
};

template <typename T>
TensorView view(std::string name, DType dtype, const std::vector<T>& values) {
  return {std::move(name),
          dtype,
          {static_cast<int64_t>(values.size())},
          reinterpret_cast<const std::byte*>(values.data()),
          static_cast<int64_t>(values.size() * sizeof(T))};
}

TEST(ReadGolden, CasesPartsAndConversions) {
  const GoldenFolder folder;
  const std::vector<float> f32 = {1.5f, -2};
  const std::vector<double> f64 = {0.25};
  const std::vector<uint16_t> f16 = {float_to_f16(3)}, bf16 = {float_to_bf16(-4)};
  const std::vector<int8_t> i8 = {-5};
  const std::vector<uint8_t> flags = {1, 0};
  const std::vector<int64_t> i64 = {INT64_MIN};
  write_safetensors(
      folder / "x.safetensors",
      {view("attn_b/in.f32", DType::kF32, f32), view("attn_b/in.f64", DType::kF64, f64),
       view("attn_b/in.f16", DType::kF16, f16), view("attn_b/in.bf16", DType::kBF16, bf16),
       view("a/out.i8", DType::kI8, i8), view("a/out.flags", DType::kBool, flags),
       view("a/out.i64", DType::kI64, i64)},
      {{"provenance", "made here"},
       {"format", "golden-1"},
       {"attn_b", R"({"config":{"heads":3},"tolerance":{"abs":0.5,"rel":1e-3}})"},
       {"a", R"({"config":{}})"}});
  const auto file = GoldenFile::open("x");
  ASSERT_NE(file, nullptr);
  ASSERT_EQ(file->cases().size(), 2u);
  const auto& a = file->cases()[0];
  const auto& b = file->cases()[1];
  EXPECT_EQ(a.name(), "a");
  EXPECT_EQ(a.kind(), "a");
  EXPECT_EQ(a.abs_tolerance(), 0);
  EXPECT_THAT(a.integers("out.i8"), ElementsAre(-5));
  EXPECT_THAT(a.integers("out.flags"), ElementsAre(1, 0));
  EXPECT_THAT(a.integers("out.i64"), ElementsAre(INT64_MIN));
  EXPECT_EQ(b.name(), "attn_b");
  EXPECT_EQ(b.kind(), "attn");
  EXPECT_EQ(b.config().at("heads"), 3);
  EXPECT_EQ(b.abs_tolerance(), 0.5);
  EXPECT_EQ(b.rel_tolerance(), 1e-3);
  EXPECT_THAT(b.floats("in.f32"), ElementsAre(1.5f, -2));
  EXPECT_THAT(b.floats("in.f64"), ElementsAre(0.25f));
  EXPECT_THAT(b.floats("in.f16"), ElementsAre(3));
  EXPECT_THAT(b.floats("in.bf16"), ElementsAre(-4));
  EXPECT_THAT(b.shape("in.f32"), ElementsAre(2));
  EXPECT_TRUE(b.has("in.f32"));
  EXPECT_FALSE(b.has("out.i8"));
  EXPECT_THAT(b.parts(), ElementsAre("in.f64", "in.f32", "in.f16", "in.bf16"));
  EXPECT_THAT(error_of([&] { b.floats("in.none"); }), HasSubstr("no tensor attn_b/in.none"));
  EXPECT_THAT(error_of([&] { b.integers("in.f32"); }), HasSubstr("is F32, expected integers"));
  EXPECT_THAT(error_of([&] { a.floats("out.i8"); }), HasSubstr("is I8, expected floats"));
}

TEST(ReadGolden, AMissingFileIsNullAndABadCaseAnError) {
  const GoldenFolder folder;
  EXPECT_EQ(GoldenFile::open("nowhere"), nullptr);
  write_safetensors(folder / "bad.safetensors", {}, {{"case", "{not json"}});
  EXPECT_THAT(error_of([] { GoldenFile::open("bad"); }),
              HasSubstr("case case is not a JSON object"));
}

TEST(ReadGolden, ExpectCloseNamesTheWorstElement) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  expect_close({}, {}, 0, 0, "nothing");
  expect_close({1, 2, kNan, kInf}, {1.25f, 2, kNan, kInf}, 0.25, 0, "at the limit");
  expect_close({110}, {100}, 0, 0.1, "relative");
  EXPECT_NONFATAL_FAILURE(expect_close({1, 2, 9}, {1.5f, 2.5f, 3}, 0.1, 0, "case/out"),
                          "case/out: worst element 2 of 3: got 9, want 3");
  EXPECT_NONFATAL_FAILURE(expect_close({1, kNan}, {5, 1}, 0, 0, "x"), "worst element 1 of 2");
  EXPECT_NONFATAL_FAILURE(expect_close({-kInf}, {kInf}, 1e9, 1, "x"), "got -inf, want inf");
  EXPECT_FATAL_FAILURE(expect_close({1}, {1, 2}, 1, 1, "sizes"), "sizes");
}

TEST(GoldenReader, EveryFileOfTheFolder) {
  const char* named = std::getenv("MNEME_GOLDEN_DIR");
  const std::string folder = named != nullptr ? named : MNEME_SOURCE_DIR "/tests/golden";
  int64_t files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".safetensors") continue;
    ++files;
    const auto file = GoldenFile::open(entry.path().stem().string());
    ASSERT_NE(file, nullptr);
    EXPECT_FALSE(file->cases().empty()) << entry.path();
    for (const auto& one : file->cases()) {
      EXPECT_FALSE(one.parts().empty()) << entry.path() << " " << one.name();
      EXPECT_TRUE(one.config().is_object()) << entry.path() << " " << one.name();
    }
  }
  EXPECT_GT(files, 0) << folder;
}

}  // namespace
}  // namespace mneme
