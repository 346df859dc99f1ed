// Small charts as inline SVG, drawn for a width of about 380 CSS pixels so that their text stays
// readable on a phone. Series are told apart by marker shape and dash as well as by colour; colours
// come from the page's CSS variables --s0..--s5, --ink, --muted and --grid.
// Tests: svg_chart_test.cc.
#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace mneme {

struct ChartSeries {
  std::string name;
  size_t style = 0;                               // which marker, dash and colour
  std::vector<std::pair<double, double>> points;  // (x, y), finite
  std::string note;
};

struct ChartText {
  std::string id;  // unique on the page, for aria-labelledby
  std::string title, description;
  std::string x_label, y_label;
};

enum class ChartScale {
  kLinear,       // from the data's own range
  kFromZero,     // linear, zero always shown
  kLogarithmic,  // decades; zeros are drawn on the bottom line, labelled 0
  kDoublings     // the same in powers of two
};

// One labelled marker a point, x from zero, or in powers of two where the largest is 16 times the
// least. front: corners of a line of steps behind them, which runs level from each to below or above
// the next. Throws Error on points that are not finite, or below zero on a logarithmic scale.
std::string scatter_chart(const ChartText& text, const std::vector<ChartSeries>& series,
                          ChartScale y_scale,
                          const std::vector<std::pair<double, double>>& front = {});
// One line a series, x and y from zero.
std::string line_chart(const ChartText& text, const std::vector<ChartSeries>& series);

// A roof of a roofline chart: y = least of `level` and slope * x; infinite: not limited by it.
struct ChartRoof {
  std::string name;
  double level = 0, slope = 0;
};
// Both axes logarithmic: one marker a point, labelled with its series' name where that is not empty
// and with its series' note while a pointer is on it, under the roofs.
// Throws Error on points or roofs that are not positive.
std::string roofline_chart(const ChartText& text, const std::vector<ChartSeries>& series,
                           const std::vector<ChartRoof>& roofs);

struct BarGroup {
  std::string name;
  size_t style = 0;
  std::vector<double> values;  // one for each of `bars`, >= 0
};
// Horizontal bars: for each group its name, then one bar for each name of `bars`, with its value
// written by `format`.
std::string bar_chart(const ChartText& text, const std::vector<std::string>& bars,
                      const std::vector<BarGroup>& groups,
                      const std::function<std::string(double)>& format);

// The marker of a style on its own, with a piece of its line, for legends and tables.
std::string legend_marker(size_t style);

}  // namespace mneme
