#include "mneme/eval/html_text.h"

#include <gtest/gtest.h>

#include <limits>

namespace mneme {
namespace {

TEST(HtmlEscape, NothingOfTheTextCanBecomeMarkup) {
  EXPECT_EQ(html_escape("<script>alert(\"1\" & '2')</script>"),
            "&lt;script&gt;alert(&quot;1&quot; &amp; &#39;2&#39;)&lt;/script&gt;");
  EXPECT_EQ(html_escape("caf\xC3\xA9\n\ttea"), "caf\xC3\xA9\n\ttea");
  EXPECT_EQ(html_escape(std::string_view("a\0b\x1b[0m", 7)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD[0m");
  EXPECT_EQ(html_escape("\xC3<"), "\xEF\xBF\xBD&lt;");
  EXPECT_EQ(html_escape(""), "");
}

TEST(Numbers, ReadAsPeopleWriteThem) {
  EXPECT_EQ(fixed_number(1.25, 1), "1.2");
  EXPECT_EQ(fixed_number(-0.01, 1), "0.0");
  EXPECT_EQ(fixed_number(-0.06, 1), "-0.1");
  EXPECT_EQ(short_number(0), "0");
  EXPECT_EQ(short_number(0.001234), "0.00123");
  EXPECT_EQ(short_number(2.13e-7), "2.1e-07");
  EXPECT_EQ(short_number(-1.234), "-1.23");
  EXPECT_EQ(short_number(12.34), "12.3");
  EXPECT_EQ(short_number(123.4), "123");
  EXPECT_EQ(short_number(1234.4), "1,234");
  EXPECT_EQ(short_number(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(short_number(std::numeric_limits<double>::quiet_NaN()), "not a number");
  EXPECT_EQ(grouped_number(999), "999");
  EXPECT_EQ(grouped_number(1000), "1,000");
  EXPECT_EQ(grouped_number(-1234567), "-1,234,567");
  EXPECT_EQ(grouped_number(-123), "-123");
}

}  // namespace
}  // namespace mneme
