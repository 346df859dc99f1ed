#include "mneme/io/hash.h"

#include <gtest/gtest.h>

namespace mneme {
namespace {

std::string hash_of(std::initializer_list<std::string_view> pieces) {
  Hash hash;
  for (const std::string_view piece : pieces)
    hash.add(piece.data(), static_cast<int64_t>(piece.size()));
  return hash.text();
}

TEST(Hash, DependsOnTheBytesNotOnThePieces) {
  EXPECT_EQ(hash_of({"memory"}), hash_of({"mem", "", "ory"}));
  EXPECT_NE(hash_of({"memory"}), hash_of({"memorz"}));
  EXPECT_EQ(hash_of({}), "99aa06d3014798d86001c324468d497f");  // XXH3-128 of nothing, seed 0
}

TEST(Hash, TextsKeepTheirBounds) {
  Hash a, b;
  a.add_text("ab");
  a.add_text("c");
  b.add_text("a");
  b.add_text("bc");
  EXPECT_NE(a.text(), b.text());
}

}  // namespace
}  // namespace mneme
