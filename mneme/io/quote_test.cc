#include "mneme/io/quote.h"

#include <gtest/gtest.h>

namespace mneme {
namespace {

TEST(Quote, KeepsPlainTextAndUtf8) {
  EXPECT_EQ(quote(""), "''");
  EXPECT_EQ(quote("blk.0.attn_k.weight"), "'blk.0.attn_k.weight'");
  EXPECT_EQ(quote("größe \xe6\xbc\xa2"), "'größe \xe6\xbc\xa2'");
}

// A name from a file must not move the cursor, colour the terminal or add a line to a log.
TEST(Quote, EscapesWhatATerminalOrALogWouldObey) {
  EXPECT_EQ(quote("a\nb"), "'a\\x0ab'");
  EXPECT_EQ(quote("\x1b[31m"), "'\\x1b[31m'");
  EXPECT_EQ(quote("\x7f"), "'\\x7f'");
  EXPECT_EQ(quote("\xc2\x9b"), "'\\xc2\\x9b'");
  EXPECT_EQ(quote(std::string_view("\0", 1)), "'\\x00'");
  EXPECT_EQ(quote("\xff\xfe"), "'\\xff\\xfe'");
  EXPECT_EQ(quote("it's \\"), "'it\\'s \\\\'");
}

TEST(Quote, CutsLongTextBetweenCharacters) {
  EXPECT_EQ(quote(std::string(120, 'x')), "'" + std::string(120, 'x') + "'");
  EXPECT_EQ(quote(std::string(1'000'000, 'x')), "'" + std::string(120, 'x') + "...'");
  EXPECT_EQ(quote(std::string(119, 'x') + "\xe6\xbc\xa2y"),
            "'" + std::string(119, 'x') + "\xe6\xbc\xa2...'");
}

}  // namespace
}  // namespace mneme
