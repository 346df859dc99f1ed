#include "mneme/eval/svg_chart.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>
#include <set>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

const ChartText kText{"c1", "Quality <against> bytes", "Five memories.", "MiB", "KL"};

std::vector<std::smatch> matches(const std::string& text, const std::regex& pattern) {
  return {std::sregex_iterator(text.begin(), text.end(), pattern), std::sregex_iterator()};
}

// The places (x, y) of all markers, in the order of the series.
std::vector<std::smatch> marks_of(const std::string& svg) {
  return matches(svg, std::regex(R"(translate\(([-.0-9]+) ([-.0-9]+)\))"));
}

// Every opened element is closed, in order.
void expect_well_formed(const std::string& svg) {
  std::vector<std::string> open;
  static const std::regex kTag(R"(<(/?)([a-z]+)[^<>]*?(/?)>)");
  for (const std::smatch& tag : matches(svg, kTag)) {
    if (tag[3].length() > 0) continue;
    if (tag[1].length() == 0) {
      open.push_back(tag[2]);
    } else {
      ASSERT_FALSE(open.empty());
      EXPECT_EQ(open.back(), tag[2].str());
      open.pop_back();
    }
  }
  EXPECT_TRUE(open.empty());
}

TEST(ScatterChart, IsWellFormedEscapedAndLabelledForReaders) {
  const std::string svg = scatter_chart(
      kText, {{"full", 0, {{100, 0}}}, {"<b>q4</b>", 1, {{28, 0.02}}}}, ChartScale::kLogarithmic);
  expect_well_formed(svg);
  EXPECT_THAT(svg, HasSubstr("role=\"img\" aria-labelledby=\"c1-t c1-d\""));
  EXPECT_THAT(svg, HasSubstr("<title id=\"c1-t\">Quality &lt;against&gt; bytes</title>"));
  EXPECT_THAT(svg, HasSubstr("<desc id=\"c1-d\">Five memories.</desc>"));
  EXPECT_THAT(svg, HasSubstr("&lt;b&gt;q4&lt;/b&gt;"));
  EXPECT_THAT(svg, Not(HasSubstr("<b>")));
}

TEST(ScatterChart, PutsPointsWhereTheirValuesAre) {
  const std::string svg =
      scatter_chart(kText, {{"a", 0, {{0, 0}}}, {"b", 1, {{50, 5}}}, {"c", 2, {{100, 10}}}},
                    ChartScale::kFromZero);
  const auto marks = marks_of(svg);
  ASSERT_EQ(marks.size(), 3u);
  const auto x = [&](size_t i) { return std::stod(marks[i][1]); };
  const auto y = [&](size_t i) { return std::stod(marks[i][2]); };
  EXPECT_NEAR(x(1), (x(0) + x(2)) / 2, 0.11);
  EXPECT_NEAR(y(1), (y(0) + y(2)) / 2, 0.11);
  EXPECT_LT(x(0), x(2));
  EXPECT_GT(y(0), y(2));  // up is more
}

TEST(ScatterChart, AFrontRunsInStepsThroughItsPoints) {
  const std::string svg =
      scatter_chart(kText, {{"a", 0, {{0, 0}}}, {"b", 1, {{50, 5}}}, {"c", 2, {{100, 10}}}},
                    ChartScale::kFromZero, {{0, 0}, {50, 5}, {100, 10}});
  expect_well_formed(svg);
  const auto marks = marks_of(svg);
  const auto at = [&](size_t i, int part) { return marks[i][part].str(); };
  EXPECT_THAT(svg, HasSubstr("class=\"front\" d=\"M" + at(0, 1) + " " + at(0, 2) + "H" + at(1, 1) +
                             "V" + at(1, 2) + "H" + at(2, 1) + "V" + at(2, 2) + "\""));
  EXPECT_THAT(scatter_chart(kText, {{"a", 0, {{0, 0}}}}, ChartScale::kLinear),
              Not(HasSubstr("front")));
}

TEST(ScatterChart, ALogarithmicScaleIsEvenInDecadesAndHasAPlaceForZero) {
  const std::string svg = scatter_chart(
      kText,
      {{"zero", 0, {{1, 0}}}, {"a", 1, {{2, 0.001}}}, {"b", 2, {{3, 0.01}}}, {"c", 3, {{4, 0.1}}}},
      ChartScale::kLogarithmic);
  const auto marks = marks_of(svg);
  ASSERT_EQ(marks.size(), 4u);
  const auto y = [&](size_t i) { return std::stod(marks[i][2]); };
  EXPECT_GT(y(0), y(1));
  EXPECT_NEAR(y(1) - y(2), y(2) - y(3), 0.21);
  EXPECT_THAT(svg, HasSubstr(">0</text>"));
  EXPECT_THAT(svg, HasSubstr(">0.01</text>"));
}

TEST(ScatterChart, AFarPointDoesNotPressTheOthersTogether) {
  const std::string svg = scatter_chart(
      kText,
      {{"a", 0, {{8, 1}}}, {"b", 1, {{32, 2}}}, {"c", 2, {{128, 3}}}, {"far", 3, {{512, 4}}}},
      ChartScale::kFromZero);
  const auto marks = marks_of(svg);
  ASSERT_EQ(marks.size(), 4u);
  const auto x = [&](size_t i) { return std::stod(marks[i][1]); };
  EXPECT_NEAR(x(1) - x(0), x(2) - x(1), 0.21);
  EXPECT_NEAR(x(2) - x(1), x(3) - x(2), 0.21);
  EXPECT_THAT(svg, HasSubstr(">8</text>"));
  EXPECT_THAT(svg, HasSubstr(">512</text>"));
}

TEST(ScatterChart, SeriesOfOneColourHaveMarksOfTheirOwn) {
  const auto mark_of = [](size_t style) {
    const std::string marker = legend_marker(style);
    return marker.substr(marker.find("class=\"m"));
  };
  std::set<std::string> marks;
  for (size_t style = 0; style < 36; ++style) marks.insert(mark_of(style));
  EXPECT_EQ(marks.size(), 36u);
}

TEST(ScatterChart, LabelsOfCrowdedPointsDoNotOverlap) {
  std::vector<ChartSeries> series;
  for (size_t i = 0; i < 8; ++i)
    series.push_back({"sliding(window=512)", i, {{10 + 0.1 * static_cast<double>(i), 1}}});
  series.push_back({"far", 9, {{300, 1}}});
  const std::string svg = scatter_chart(kText, series, ChartScale::kFromZero);
  std::vector<double> baselines;
  for (const auto& label :
       matches(svg, std::regex(R"re(y="([-.0-9]+)" text-anchor="[a-z]+" class="name">sliding)re")))
    baselines.push_back(std::stod(label[1]));
  ASSERT_EQ(baselines.size(), 8u);
  std::ranges::sort(baselines);
  for (size_t i = 1; i < baselines.size(); ++i) EXPECT_GE(baselines[i] - baselines[i - 1], 14.8);
  EXPECT_GT(baselines.front(), 0);
  EXPECT_LT(baselines.back(), 320);
}

TEST(ScatterChart, ALabelDoesNotCoverAnotherMarker) {
  // The marker of b lies where the label of a would be.
  const std::string svg = scatter_chart(
      kText, {{"a-rather-long-name", 0, {{10, 1}}}, {"b", 1, {{20, 1}}}, {"c", 2, {{100, 2}}}},
      ChartScale::kFromZero);
  const auto marks = marks_of(svg);
  const auto label = matches(svg, std::regex(R"re(y="([-.0-9]+)" [^>]*>a-rather)re"));
  ASSERT_EQ(marks.size(), 3u);
  ASSERT_EQ(label.size(), 1u);
  EXPECT_GT(std::abs(std::stod(label[0][1]) - 4 - std::stod(marks[1][2])), 9);
  EXPECT_THAT(svg, HasSubstr("class=\"leader\""));
}

TEST(ScatterChart, ALongLabelOfAMarkerInTheMiddleStaysInside) {
  const std::string name(40, 'w');
  const std::string svg =
      scatter_chart(kText, {{name, 0, {{50, 1}}}, {"end", 1, {{100, 2}}}}, ChartScale::kFromZero);
  const auto label = matches(svg, std::regex(R"re(x="([-.0-9]+)" y="[-.0-9]+" [^>]*>www)re"));
  ASSERT_EQ(label.size(), 1u);
  EXPECT_GE(std::stod(label[0][1]), 0);
  EXPECT_LE(std::stod(label[0][1]) + 40 * 7.8, 380.1);
}

TEST(LineChart, OnePathASeriesWithItsOwnDash) {
  const std::string svg = line_chart(
      kText, {{"full", 0, {{100, 40}, {200, 30}, {300, 25}}}, {"q8", 1, {{100, 41}, {300, 33}}}});
  expect_well_formed(svg);
  const auto paths = matches(svg, std::regex(R"re(stroke-dasharray="([^"]+)" d="(M[^"]+)")re"));
  ASSERT_EQ(paths.size(), 2u);
  EXPECT_NE(paths[0][1].str(), paths[1][1].str());
  EXPECT_EQ(std::ranges::count(paths[0][2].str(), 'L'), 2);
  EXPECT_THAT(svg, HasSubstr("<title>full</title>"));
}

TEST(BarChart, LengthsAreInProportion) {
  const std::string svg =
      bar_chart(kText, {"resident", "f16"}, {{"full", 0, {100, 100}}, {"q4", 1, {25, 100}}},
                [](double value) { return std::to_string(static_cast<int>(value)) + " MiB"; });
  expect_well_formed(svg);
  const auto bars = matches(svg, std::regex(R"re(class="b b\d s\d"[^>]* width="([.0-9]+)")re"));
  ASSERT_EQ(bars.size(), 4u);
  EXPECT_NEAR(std::stod(bars[2][1]) / std::stod(bars[0][1]), 0.25, 0.01);
  EXPECT_THAT(svg, HasSubstr("25 MiB"));
}

TEST(Charts, RefuseWhatCannotBeDrawn) {
  const auto message = [](const std::function<void()>& draw) -> std::string {
    try {
      draw();
    } catch (const Error& error) {
      return error.what();
    }
    return "drawn";
  };
  const double kNan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_THAT(message([&] {
                line_chart(kText, {{"x", 0, {{1, kNan}}}});
              }),
              HasSubstr("(1, nan) of x is not finite"));
  EXPECT_THAT(message([&] { line_chart(kText, {}); }), HasSubstr("no points"));
  EXPECT_THAT(message([&] {
                scatter_chart(kText, {{"x", 0, {{1, -1}}}}, ChartScale::kLogarithmic);
              }),
              HasSubstr("no place for -1"));
  EXPECT_THAT(message([&] {
                bar_chart(kText, {"a"}, {{"g", 0, {1, 2}}}, {});
              }),
              HasSubstr("2 values for 1 bars"));
  EXPECT_THAT(message([&] { bar_chart(kText, {"a"}, {{"g", 0, {-1}}}, {}); }), HasSubstr("is -1"));
}

TEST(Charts, OnePointAloneIsDrawn) {
  for (const ChartScale scale :
       {ChartScale::kLinear, ChartScale::kFromZero, ChartScale::kLogarithmic}) {
    for (const double value : {0.0, 5.0}) {
      const std::string svg = scatter_chart(kText, {{"x", 0, {{value, value}}}}, scale);
      EXPECT_THAT(svg, Not(HasSubstr("nan")));
      EXPECT_THAT(svg, Not(HasSubstr("inf")));
    }
  }
}

TEST(RooflineChart, PutsPointsUnderRoofsOnDecades) {
  const std::string svg = roofline_chart(
      kText, {{"7", 0, {{1, 10}}}, {"8", 0, {{100, 100}}}},
      {{"FMA & read", 100, 10}, {"bandwidth", std::numeric_limits<double>::infinity(), 10}});
  expect_well_formed(svg);
  EXPECT_THAT(svg, HasSubstr("<title>FMA &amp; read</title>"));
  EXPECT_THAT(svg, HasSubstr(">7</text>"));
  const auto marks = marks_of(svg);
  ASSERT_EQ(marks.size(), 2u);
  // The first point lies on the sloped roof's left end, the second on the level one's right end.
  const auto path = matches(
      svg,
      std::regex(R"re(d="M([-.0-9]+) ([-.0-9]+)L([-.0-9]+) ([-.0-9]+)L([-.0-9]+) ([-.0-9]+)")re"));
  ASSERT_EQ(path.size(), 1u);
  for (int i = 1; i <= 2; ++i) {
    EXPECT_EQ(path[0][i].str(), marks[0][i].str());
    EXPECT_EQ(path[0][i + 4].str(), marks[1][i].str());
  }
  // The ridge is half way, at an intensity of 10.
  EXPECT_NEAR(std::stod(path[0][3]), (std::stod(path[0][1]) + std::stod(path[0][5])) / 2, 0.11);
  EXPECT_EQ(path[0][4].str(), path[0][6].str());
}

TEST(RooflineChart, RefusesWhatHasNoLogarithm) {
  const auto message = [](double x, double y, double level) -> std::string {
    try {
      roofline_chart(kText, {{"a", 0, {{x, y}}}}, {{"roof", level, 1}});
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_EQ(message(1, 1, 1), "no error");
  EXPECT_THAT(message(0, 1, 1), HasSubstr("point (0, 1) of a has no place on logarithmic scales"));
  EXPECT_THAT(message(1, -1, 1), HasSubstr("point (1, -1) of a"));
  EXPECT_THAT(message(1, 1, 0), HasSubstr("roof roof is 0 and 1 x"));
}

}  // namespace
}  // namespace mneme
