#include "mneme/io/jinja/text.h"

#include <gtest/gtest.h>

#include "mneme/core/error.h"
#include "mneme/io/jinja/limits.h"

namespace mneme::jinja {
namespace {

// The bytes that came from the input, others as '.'.
std::string input_of(const Text& text) {
  std::string shown;
  for (size_t i = 0; i < text.bytes().size(); ++i)
    shown += text.source_at(i) == Source::kInput ? text.bytes()[i] : '.';
  return shown;
}

Text mixed() {
  Text text("ab ");
  text.append(" Cd ", Source::kInput);
  text.append("ef");
  return text;
}

TEST(Text, EveryOperationKeepsTheOriginOfBytes) {
  EXPECT_EQ(input_of(mixed()), "... Cd ..");
  EXPECT_EQ(input_of(upper(mixed())), "... CD ..");
  EXPECT_EQ(input_of(lower(mixed())), "... cd ..");
  EXPECT_EQ(input_of(title(mixed())), "... Cd ..");
  EXPECT_EQ(input_of(capitalize(mixed())), "... cd ..");
  EXPECT_EQ(input_of(reversed(mixed())), ".. dC ...");
  EXPECT_EQ(input_of(repeat(mixed(), 2)), "... Cd ..... Cd ..");
  EXPECT_EQ(input_of(slice_characters(mixed(), 2, 4, 1)), ". Cd");
  EXPECT_EQ(input_of(strip(Text("  x ", Source::kInput), Side::kBoth)), "x");
  EXPECT_EQ(input_of(replace(mixed(), "C", Text("zz"))), "... ..d ..");
  EXPECT_EQ(input_of(replace(mixed(), "b", Text("zz", Source::kInput))), ".zz. Cd ..");
  EXPECT_EQ(input_of(pad(mixed(), 11, '>', Text("*"))), "..... Cd ..");
  EXPECT_EQ(input_of(escape_html(Text("<", Source::kInput))), "&lt;");
  const std::vector<Text> words = split_space(mixed(), -1);
  ASSERT_EQ(words.size(), 3u);
  EXPECT_EQ(input_of(words[1]), "Cd");
  EXPECT_EQ(input_of(join(words, Text("-"))), "...Cd...");
}

TEST(Text, ATextOfTheTemplateAloneCarriesNoMarks) {
  EXPECT_FALSE(Text("abc").has_input());
  EXPECT_FALSE(mixed().slice(0, 3).slice(0, 0).has_input());
}

TEST(Text, InvalidBytesSurviveAsCharactersOfTheirOwn) {
  const Text text("a\xFF\xC3");
  EXPECT_EQ(reversed(text).bytes(),
            "\xC3\xFF"
            "a");
  EXPECT_EQ(upper(text).bytes(), "A\xFF\xC3");
  EXPECT_EQ(slice_characters(text, 1, 1, 1).bytes(), "\xFF");
}

TEST(Text, GrowingBeyondTheLimitIsRefused) {
  Text text("x");
  EXPECT_THROW(repeat(text, kMaxTextBytes + 1), Error);
  const Text large(std::string(static_cast<size_t>(kMaxTextBytes), 'x'));
  EXPECT_THROW(text.append(large), Error);
}

}  // namespace
}  // namespace mneme::jinja
