#include "mneme/eval/head_map_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using ::testing::Not;

int64_t count_of(const std::string& text, const std::string& part) {
  int64_t count = 0;
  for (size_t at = 0; (at = text.find(part, at)) != std::string::npos; at += part.size()) ++count;
  return count;
}

HeadMapPage page_of() {
  HeadMapPage page{.title = "Heads of <x>", .lead = "a & b", .value = "score", .table = {7, 3}};
  page.table.at({6, 2}) = 2;
  page.table.at({3, 0}) = -1;
  page.table.at({1, 1}) = 0.5;
  page.listed = 2;
  page.facts = {{"model", "tiny"}};
  return page;
}

TEST(HeadMapHtml, ShowsEveryHeadAndTheStrongestOfBothSigns) {
  const std::string html = head_map_html(page_of());
  EXPECT_EQ(count_of(html, "<g><title>layer "), 21);
  EXPECT_EQ(count_of(html, "fill-opacity=\""), 3);
  EXPECT_EQ(count_of(html, "url(#heads-h)"), 1) << "values below zero are hatched";
  EXPECT_THAT(html, HasSubstr("layer 6, head 2: 2.000</title>"));
  EXPECT_THAT(html, HasSubstr("fill=\"var(--s1)\" fill-opacity=\"0.55\""));
  const size_t table = html.find("<tbody>");
  EXPECT_THAT(html.substr(table),
              HasSubstr("layer 6, head 2</th><td>2.000</td></tr><tr><th "
                        "scope=\"row\">layer 1, head 1</th><td>0.500</td></tr>"
                        "<tr><th scope=\"row\">layer 3, head 0</th><td>-1.000"));
  EXPECT_EQ(count_of(html.substr(table), "scope=\"row\""), 3);
  EXPECT_THAT(html, HasSubstr("<h1>Heads of &lt;x&gt;</h1><p class=\"lead\">a &amp; b</p>"));
  EXPECT_THAT(html, HasSubstr("<dt>model</dt><dd>tiny</dd>"));
  EXPECT_THAT(html, Not(HasSubstr("http"))) << "self-contained";
  EXPECT_THAT(html, Not(HasSubstr("id=\"effect-t\"")));
}

TEST(HeadMapHtml, BarsShowTheEffect) {
  HeadMapPage page = page_of();
  page.effect_title = "Masked";
  page.bars = {"best", "random"};
  page.effect = {{.name = "5 heads", .values = {0.25, 0.75}}};
  const std::string html = head_map_html(page);
  EXPECT_THAT(html, HasSubstr("5 heads"));
  EXPECT_THAT(html, HasSubstr(">0.75</text>"));
}

TEST(HeadMapHtml, WhatCannotBeDrawnIsRefused) {
  EXPECT_THAT(error_of([] { head_map_chart({}, {}); }), HasSubstr("no heads"));
  HeadTable table(1, 1);
  table.at({0, 0}) = 1.0 / 0.0;
  EXPECT_THAT(error_of([&] { head_map_chart({}, table); }), HasSubstr("not finite"));
  EXPECT_THAT(head_map_chart({.id = "m"}, HeadTable(40, 70)),
              HasSubstr("layer 39, head 69: 0.000"));
}

}  // namespace
}  // namespace mneme
