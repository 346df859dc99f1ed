#include "mneme/core/spec.h"

#include <gtest/gtest.h>

#include "mneme/core/error.h"

namespace mneme {
namespace {

std::string message_of(std::string_view text) {
  try {
    parse_spec(text);
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(Spec, ReadsTermsAndArguments) {
  const Spec spec = parse_spec(" sliding( window=512 , sink=4 ) + q8 ");
  ASSERT_EQ(spec.terms.size(), 2u);
  EXPECT_EQ(spec.terms[0].name, "sliding");
  ASSERT_EQ(spec.terms[0].arguments.size(), 2u);
  EXPECT_EQ(spec.terms[0].find("sink")->value, "4");
  EXPECT_EQ(spec.terms[0].find("budget"), nullptr);
  EXPECT_EQ(spec.terms[1].position, 34);
  EXPECT_EQ(spec_text(spec.terms), "sliding(window=512,sink=4)+q8");
}

TEST(Spec, CanonicalTextReadsBackTheSame) {
  for (const char* text :
       {"full", "q4(group=64)", "gated-delta(heads=4)", "a(b=c)+d+e(f=0.5,g=-1)"}) {
    EXPECT_EQ(spec_text(parse_spec(text).terms), text);
  }
  EXPECT_EQ(spec_text(parse_spec("full()").terms), "full");
}

TEST(Spec, NamesThePositionOfTheFault) {
  EXPECT_EQ(message_of("sliding(window=512"),
            "memory spec, character 19: expected ',' or ')'\n  sliding(window=512\n                "
            "    ^");
  EXPECT_NE(message_of("").find("character 1: expected a memory name"), std::string::npos);
  EXPECT_NE(message_of("q8+").find("character 4: expected a memory name"), std::string::npos);
  EXPECT_NE(message_of("q8 q4").find("character 4: expected '+' or the end"), std::string::npos);
  EXPECT_NE(message_of("q4(group)").find("expected '='"), std::string::npos);
  EXPECT_NE(message_of("q4(group=)").find("expected a value"), std::string::npos);
  EXPECT_NE(message_of("q4(group=1,group=2)").find("given twice"), std::string::npos);
  EXPECT_NE(message_of("8q").find("expected a memory name"), std::string::npos);
  EXPECT_NE(message_of(std::string(5000, 'a')).find("at most 4096"), std::string::npos);
}

TEST(Spec, FindsTheNearestName) {
  const std::vector<std::string> names = {"full", "q8", "q4", "sliding"};
  EXPECT_EQ(nearest_name("slidng", names), "sliding");
  EXPECT_EQ(nearest_name("fulll", names), "full");
  EXPECT_EQ(nearest_name("hopfield", names), "");
}

}  // namespace
}  // namespace mneme
