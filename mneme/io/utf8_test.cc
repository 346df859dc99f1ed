#include "mneme/io/utf8.h"

#include <gtest/gtest.h>

#include "mneme/core/rng.h"
#include "mneme/io/tokenizer.h"

namespace mneme {
namespace {

const std::string kBad = "\xEF\xBF\xBD";  // U+FFFD

TEST(Utf8, EveryScalarValueSurvivesAppendAndDecode) {
  for (char32_t code = 0; code <= 0x10FFFF; ++code) {
    if (code == 0xD800) code = 0xE000;
    std::string text;
    append_utf8(text, code);
    const Utf8Char c = decode_utf8(text, 0);
    ASSERT_TRUE(c.valid) << std::hex << static_cast<uint32_t>(code);
    ASSERT_EQ(c.code_point, code);
    ASSERT_EQ(c.length, text.size());
    for (size_t cut = 1; cut < text.size(); ++cut) {
      const Utf8Char part = decode_utf8(std::string_view(text).substr(0, cut), 0);
      ASSERT_FALSE(part.valid);
      ASSERT_TRUE(part.truncated);
      ASSERT_EQ(part.length, cut);
    }
  }
}

// The examples of Unicode 15, tables 3-8 to 3-11.
TEST(Utf8, ReplacesEachMaximalSubpartOnce) {
  struct Case {
    std::string bad, repaired;
  };
  const Case cases[] = {
      {"\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41",
       kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A"},
      {"\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41",
       kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A"},
      {"\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42",
       kBad + kBad + kBad + kBad + kBad + "A" + kBad + kBad + "B"},
      {"\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41", kBad + kBad + kBad + kBad + "A"},
      {"a\xC3", "a" + kBad},
      {"\xE2\x82", kBad},
      {"", ""},
      {std::string("\0x", 2), std::string("\0x", 2)},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(repair_utf8(c.bad), c.repaired);
    EXPECT_EQ(is_utf8(c.bad), c.bad == c.repaired);
    EXPECT_TRUE(is_utf8(c.repaired));
  }
}

TEST(Utf8, FindsBadBytesBehindLongAsciiRuns) {
  for (size_t length : {0u, 1u, 7u, 8u, 9u, 63u, 100u}) {
    std::string text(length, 'a');
    EXPECT_TRUE(is_utf8(text));
    EXPECT_FALSE(is_utf8(text + "\x80"));
    EXPECT_FALSE(is_utf8(text + "\xC3"));
    EXPECT_TRUE(is_utf8(text + "\xC3\xA4"));
  }
}

TEST(Utf8Stream, HoldsBackOnlyWhatMayStillBecomeACharacter) {
  Utf8Stream stream;
  EXPECT_EQ(stream.push("a\xF0\x9F"), "a");
  EXPECT_EQ(stream.push("\x98"), "");
  EXPECT_EQ(stream.push("\x80z"), "\xF0\x9F\x98\x80z");
  EXPECT_EQ(stream.push("\xE2\x82"), "");
  EXPECT_EQ(stream.push("A"), kBad + "A");
  EXPECT_EQ(stream.push("\xED\xA0"), kBad + kBad) << "a surrogate cannot be completed";
  EXPECT_EQ(stream.push("\xC3"), "");
  EXPECT_EQ(stream.finish(), kBad);
  EXPECT_EQ(stream.finish(), "");
}

TEST(Utf8Stream, AnySplittingGivesTheSameTextAsRepairingTheWhole) {
  Rng rng(7);
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    const int64_t length = rng.below(24);
    for (int64_t i = 0; i < length; ++i) {
      static constexpr uint8_t kBytes[] = {0x41, 0x80, 0xBF, 0xC3, 0xA4, 0xE2, 0x82, 0xAC,
                                           0xF0, 0x9F, 0x98, 0xED, 0xA0, 0xF4, 0x8F, 0xFF};
      bytes.push_back(static_cast<char>(kBytes[rng.below(16)]));
    }
    Utf8Stream stream;
    std::string joined;
    for (size_t at = 0; at < bytes.size();) {
      const auto size = static_cast<size_t>(1 + rng.below(3));
      joined += stream.push(std::string_view(bytes).substr(at, size));
      at += size;
    }
    joined += stream.finish();
    ASSERT_EQ(joined, repair_utf8(bytes));
  }
}

}  // namespace
}  // namespace mneme
