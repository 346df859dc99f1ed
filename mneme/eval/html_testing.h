// What tests of report pages share.
#pragma once

#include <gtest/gtest.h>

#include <regex>
#include <string>
#include <vector>

namespace mneme::testing {

// Elements are closed in the order they were opened; those without an end tag are left out.
inline void expect_well_formed_page(const std::string& html) {
  std::vector<std::string> open;
  static const std::regex kTag(R"(<(/?)([a-z][a-z0-9]*)[^<>]*?(/?)>)");
  const std::string body = html.substr(html.find("</style>") + 8);
  open = {"html", "head"};
  for (std::sregex_iterator tag(body.begin(), body.end(), kTag), end; tag != end; ++tag) {
    const std::string name = (*tag)[2];
    if ((*tag)[3].length() > 0 || name == "br" || name == "meta") continue;
    if ((*tag)[1].length() == 0) {
      open.push_back(name);
    } else {
      ASSERT_FALSE(open.empty());
      ASSERT_EQ(open.back(), name) << tag->position();
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
}

}  // namespace mneme::testing
