#include "mneme/eval/sweep.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string message(const std::function<void()>& work) {
  try {
    work();
  } catch (const Error& error) {
    return error.what();
  }
  return "accepted";
}

TEST(ParseSweep, NameAndValues) {
  const Sweep sweep = parse_sweep("b=0.05,0.1,q4");
  EXPECT_EQ(sweep.name, "b");
  EXPECT_THAT(sweep.values, ElementsAre("0.05", "0.1", "q4"));
  EXPECT_THAT(parse_sweep("rows_2=7").values, ElementsAre("7"));
}

TEST(ParseSweep, RefusesWhatIsNone) {
  for (const char* bad : {"", "b", "=1", "2b=1", "a-b=1"})
    EXPECT_THAT(message([&] { parse_sweep(bad); }), HasSubstr("expected name=value,value,..."))
        << bad;
  EXPECT_THAT(message([] { parse_sweep("b="); }), HasSubstr("value 1 is empty"));
  EXPECT_THAT(message([] { parse_sweep("b=1,"); }), HasSubstr("value 2 is empty"));
  EXPECT_THAT(message([] { parse_sweep("b=1,,2"); }), HasSubstr("value 2 is empty"));
  EXPECT_THAT(message([] { parse_sweep("b=1,2,1"); }), HasSubstr("the value '1' is given twice"));
  EXPECT_THAT(message([] { parse_sweep("b=$c"); }), HasSubstr("cannot hold a $"));
}

std::vector<std::string> specs_of(const std::vector<SweptSpec>& swept) {
  std::vector<std::string> specs;
  for (const SweptSpec& one : swept) specs.push_back(one.spec);
  return specs;
}

TEST(ExpandSweeps, EverySpecWithEveryCombinationOfWhatItUses) {
  const std::vector<Sweep> sweeps = {{"b", {"0.1", "0.2"}}, {"bits", {"q8", "q4"}}};
  EXPECT_THAT(specs_of(expand_sweeps(
                  {"full", "cake(budget=$b)", "sliding+$bits", "cake(budget=$b)+$bits"}, sweeps)),
              ElementsAre("full", "cake(budget=0.1)", "cake(budget=0.2)", "sliding+q8",
                          "sliding+q4", "cake(budget=0.1)+q8", "cake(budget=0.1)+q4",
                          "cake(budget=0.2)+q8", "cake(budget=0.2)+q4"));
  EXPECT_THAT(specs_of(expand_sweeps({"x(a=$b,c=$b)"}, {{"b", {"1", "2"}}})),
              ElementsAre("x(a=1,c=1)", "x(a=2,c=2)"));
  EXPECT_THAT(specs_of(expand_sweeps({"full", "q4"}, {})), ElementsAre("full", "q4"));
}

TEST(ExpandSweeps, RefusesNamesThatDoNotMeet) {
  const std::vector<Sweep> one = {{"b", {"1"}}};
  EXPECT_THAT(message([&] { expand_sweeps({"full"}, one); }), HasSubstr("no --memory uses $b"));
  EXPECT_THAT(message([&] {
                expand_sweeps({"cake(budget=$bb)", "tova(budget=$b)"}, one);
              }),
              HasSubstr("'cake(budget=$bb)' uses $bb, expected the name of a --sweep: $b"));
  EXPECT_THAT(message([] { expand_sweeps({"cake(budget=$x)"}, {}); }),
              HasSubstr("uses $x, expected the name of a --sweep: there is none"));
  EXPECT_THAT(message([&] { expand_sweeps({"cake(budget=$)"}, one); }), HasSubstr("uses $,"));
  EXPECT_THAT(message([] {
                expand_sweeps({"a(x=$b)"}, {{"b", {"1"}}, {"b", {"2"}}});
              }),
              HasSubstr("sweep b: is given twice"));
}

}  // namespace
}  // namespace mneme
