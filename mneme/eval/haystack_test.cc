#include "mneme/eval/haystack.h"

#include <gtest/gtest.h>

#include <set>

#include "mneme/core/error.h"

namespace mneme {
namespace {

TEST(Haystack, SentencesAreWholeAndManyAreDifferent) {
  Rng rng(1);
  std::set<std::string> different;
  for (int i = 0; i < 2000; ++i) {
    const std::string sentence = haystack_sentence(rng);
    EXPECT_TRUE(sentence.front() >= 'A' && sentence.front() <= 'Z') << sentence;
    EXPECT_EQ(sentence.back(), '.') << sentence;
    EXPECT_EQ(sentence.find_first_of("0123456789"), std::string::npos) << sentence;
    EXPECT_EQ(sentence.find("  "), std::string::npos) << sentence;
    // No slot was left as a bare capital.
    for (size_t at = 0; at + 1 < sentence.size(); ++at) {
      const bool capital = sentence[at] >= 'A' && sentence[at] <= 'Z';
      const bool inside = sentence[at + 1] >= 'a' && sentence[at + 1] <= 'z';
      EXPECT_TRUE(!capital || inside) << sentence;
    }
    different.insert(sentence);
  }
  EXPECT_GT(different.size(), 1900u);
}

TEST(Haystack, TheSeedDecidesAndALongerTextBeginsWithTheShorter) {
  const std::string text = haystack_text(2000, 5);
  EXPECT_GE(text.size(), 2000u);
  EXPECT_EQ(haystack_text(2000, 5), text);
  EXPECT_NE(haystack_text(2000, 6), text);
  EXPECT_TRUE(haystack_text(6000, 5).starts_with(text));
  EXPECT_EQ(haystack_text(0, 5), "");
  EXPECT_THROW(haystack_text(-1, 5), Error);
}

}  // namespace
}  // namespace mneme
