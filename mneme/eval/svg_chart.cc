#include "mneme/eval/svg_chart.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"

namespace mneme {
namespace {

constexpr double kWidth = 380;
constexpr double kLeft = 50, kRight = 14, kTop = 12, kBottom = 44;
constexpr double kLabelHeight = 15;   // of one line of text
constexpr double kLetterWidth = 7.8;  // of a label's letter, on the safe side
constexpr size_t kStyles = 6;

// Six marks around the origin, each telling itself apart in black and white.
constexpr std::array<const char*, kStyles> kMarks = {
    R"(<circle r="5"/>)",
    R"(<rect x="-4.6" y="-4.6" width="9.2" height="9.2"/>)",
    R"(<path d="M0-6L5.8 4.6H-5.8Z"/>)",
    R"(<path d="M0-6.6L6.6 0L0 6.6L-6.6 0Z"/>)",
    R"(<path d="M0 6L5.8-4.6H-5.8Z"/>)",
    R"(<path d="M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z"/>)"};
constexpr std::array<const char*, kStyles> kDashes = {"none",    "7 3", "2 3",
                                                      "9 3 2 3", "4 2", "1 4"};

// The seventh series has the first one's colour and the second one's mark: 36 are told apart.
size_t shape_of(size_t style) { return (style + style / kStyles) % kStyles; }

std::string number(double value) { return fixed_number(value, 1); }

std::string mark(size_t style, double x, double y) {
  const std::string kind = std::to_string(style % kStyles);
  return concat("<g class=\"m s", kind, "\" transform=\"translate(", number(x), " ", number(y),
                ")\">", kMarks[shape_of(style)], "</g>");
}

std::string text_at(double x, double y, const char* anchor, std::string_view text,
                    const char* css = "") {
  return concat("<text x=\"", number(x), "\" y=\"", number(y), "\" text-anchor=\"", anchor, "\"",
                css, ">", html_escape(text), "</text>");
}

std::string line_between(double x1, double y1, double x2, double y2, const char* css) {
  return concat("<line x1=\"", number(x1), "\" y1=\"", number(y1), "\" x2=\"", number(x2),
                "\" y2=\"", number(y2), "\" class=\"", css, "\"/>");
}

std::string opening(const ChartText& text, double height) {
  const std::string id = html_escape(text.id);
  return concat("<svg viewBox=\"0 0 ", number(kWidth), " ", number(height),
                "\" role=\"img\" aria-labelledby=\"", id, "-t ", id, "-d\"><title id=\"", id,
                "-t\">", html_escape(text.title), "</title><desc id=\"", id, "-d\">",
                html_escape(text.description), "</desc>");
}

// A step of 1, 2 or 5 times a power of ten that cuts `range` into at most `most` pieces.
double nice_step(double range, int most) {
  const double raw = range / most;
  const double decade = std::pow(10, std::floor(std::log10(raw)));
  for (const double factor : {1.0, 2.0, 5.0}) {
    if (factor * decade >= raw * (1 - 1e-9)) return factor * decade;
  }
  return 10 * decade;
}

// One axis: data to pixels, and the places of its ticks.
struct Axis {
  bool logarithmic = false;
  double base = 10;       // logarithmic: of the steps between ticks
  bool has_zero = false;  // logarithmic: a line for zeros below the lowest step
  double low = 0, high = 1, step = 1;
  double from = 0, to = 1;  // pixels

  double place(double value) const {
    if (!logarithmic) return from + (value - low) / (high - low) * (to - from);
    // The zero line takes the room of one step.
    const double bottom = has_zero ? low - 1 : low;
    const double at = value > 0 ? std::log(value) / std::log(base) : bottom;
    return from + (at - bottom) / (high - bottom) * (to - from);
  }

  std::vector<std::pair<double, std::string>> ticks() const {
    std::vector<std::pair<double, std::string>> marks;
    if (!logarithmic) {
      const int digits = std::clamp(-static_cast<int>(std::floor(std::log10(step) + 1e-9)), 0, 12);
      for (double i = std::ceil(low / step - 1e-9); i * step <= high + step * 1e-9; ++i)
        marks.emplace_back(i * step, digits > 0 ? fixed_number(i * step, digits)
                                                : grouped_number(std::llround(i * step)));
      return marks;
    }
    if (has_zero) marks.emplace_back(0, "0");
    const auto every = static_cast<int>(std::ceil((high - low) / 6));
    for (auto power = static_cast<int>(low); power <= static_cast<int>(high); power += every) {
      const double value = std::pow(base, power);
      marks.emplace_back(value, base == 10 && (power > 3 || power < -3) ? concat("1e", power)
                                : power < 0 ? fixed_number(value, -power)
                                            : grouped_number(std::llround(value)));
    }
    return marks;
  }
};

Axis axis_for(std::vector<double> values, ChartScale scale, double from, double to) {
  Axis axis{.logarithmic = scale == ChartScale::kLogarithmic || scale == ChartScale::kDoublings,
            .base = scale == ChartScale::kDoublings ? 2.0 : 10.0,
            .from = from,
            .to = to};
  if (axis.logarithmic) {
    for (const double value : values)
      MNEME_CHECK(value >= 0, "chart: a logarithmic scale has no place for ", value);
    axis.has_zero = std::ranges::count(values, 0.0) > 0;
    std::erase(values, 0.0);
    if (values.empty()) values = {1};
    const auto [low, high] = std::ranges::minmax(values);
    const double unit = std::log(axis.base);
    axis.low = std::floor(std::log(low) / unit + 1e-9);
    axis.high = std::max(axis.low + 1, std::ceil(std::log(high) / unit - 1e-9));
    return axis;
  }
  if (scale == ChartScale::kFromZero) values.push_back(0);
  auto [low, high] = std::ranges::minmax(values);
  if (high - low < 1e-12 * std::max(1.0, std::abs(high))) {
    low -= scale == ChartScale::kFromZero ? 0 : 0.5;
    high += scale == ChartScale::kFromZero ? 1 : 0.5;
  }
  axis.step = nice_step(high - low, 5);
  axis.low = std::floor(low / axis.step + 1e-9) * axis.step;
  axis.high = std::ceil(high / axis.step - 1e-9) * axis.step;
  return axis;
}

struct Frame {
  Axis x, y;
  std::string svg;  // grid, ticks and axis titles
};

Frame frame_for(const ChartText& text, const std::vector<ChartSeries>& series, ChartScale x_scale,
                ChartScale y_scale, double height) {
  std::vector<double> xs, ys;
  for (const ChartSeries& one : series) {
    for (const auto& [x, y] : one.points) {
      MNEME_CHECK(std::isfinite(x) && std::isfinite(y), "chart: point (", x, ", ", y, ") of ",
                  one.name, " is not finite");
      xs.push_back(x);
      ys.push_back(y);
    }
  }
  MNEME_CHECK(!xs.empty(), "chart: no points for ", text.title);
  Frame frame{.x = axis_for(xs, x_scale, kLeft, kWidth - kRight),
              .y = axis_for(ys, y_scale, height - kBottom, kTop + kLabelHeight)};
  std::string& svg = frame.svg;
  for (const auto& [value, label] : frame.y.ticks()) {
    const double y = frame.y.place(value);
    svg += line_between(kLeft, y, kWidth - kRight, y, "grid");
    svg += text_at(kLeft - 6, y + 4, "end", label, " class=\"tick\"");
  }
  for (const auto& [value, label] : frame.x.ticks()) {
    const double x = frame.x.place(value);
    svg += line_between(x, height - kBottom, x, height - kBottom + 4, "axis");
    svg += text_at(x, height - kBottom + 17, x > kWidth - 30 ? "end" : "middle", label,
                   " class=\"tick\"");
  }
  svg += line_between(kLeft, height - kBottom, kWidth - kRight, height - kBottom, "axis");
  svg += text_at((kLeft + kWidth - kRight) / 2, height - 6, "middle", text.x_label);
  svg += text_at(0, kTop, "start", text.y_label);
  return frame;
}

struct Box {
  double left, top, right, bottom;

  bool overlaps(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

struct Label {
  const std::string* text;
  double x, y;  // of the marker
  Box box = {};
};

enum class Side { kAfter, kBefore, kAcross };

// Puts each label beside its marker, or above or below it, at the nearest place where it covers
// neither a marker nor another label. Where there is no such place, to the right all the same.
void place_labels(std::vector<Label>& labels, double bottom) {
  std::vector<Box> taken;
  for (const Label& label : labels)
    taken.push_back({label.x - 7, label.y - 7, label.x + 7, label.y + 7});
  std::ranges::stable_sort(labels, {}, &Label::y);
  for (Label& label : labels) {
    const double width = static_cast<double>(label.text->size()) * kLetterWidth;
    const auto try_at = [&](Side side, double shift) {
      const double left = side == Side::kAfter ? label.x + 10
                          : side == Side::kBefore
                              ? label.x - 10 - width
                              : std::max(0.0, std::min(label.x - width / 2, kWidth - width));
      const double middle = label.y + shift;
      label.box = {left, middle - kLabelHeight / 2, left + width, middle + kLabelHeight / 2};
      return left >= 0 && label.box.right <= kWidth && label.box.top >= kTop + 4 &&
             label.box.bottom <= bottom &&
             std::ranges::none_of(taken, [&](const Box& box) { return box.overlaps(label.box); });
    };
    bool placed = false;
    for (double shift = 0; shift <= bottom && !placed; shift += kLabelHeight) {
      for (const double signed_shift : {-shift, shift}) {
        for (const Side side : {Side::kAfter, Side::kBefore, Side::kAcross})
          placed = placed || try_at(side, signed_shift);
        if (placed) break;
      }
    }
    if (!placed) try_at(Side::kAfter, 0);
    taken.push_back(label.box);
  }
}

// From zero, unless one far point would press all the others together.
ChartScale x_scale_for(const std::vector<ChartSeries>& series) {
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const ChartSeries& one : series) {
    for (const auto& [x, y] : one.points) {
      low = std::min(low, x);
      high = std::max(high, x);
    }
  }
  return low > 0 && high >= 16 * low ? ChartScale::kDoublings : ChartScale::kFromZero;
}

std::string labels_svg(std::vector<Label>& labels, double bottom) {
  place_labels(labels, bottom);
  std::string svg;
  for (const Label& label : labels) {
    const double x = std::clamp(label.x, label.box.left, label.box.right);
    const double y = std::clamp(label.y, label.box.top, label.box.bottom);
    if (y != label.y) svg += line_between(label.x, label.y, x, y, "leader");
    svg += text_at(label.box.left, label.box.bottom - 3.5, "start", *label.text, " class=\"name\"");
  }
  return svg;
}

}  // namespace

std::string scatter_chart(const ChartText& text, const std::vector<ChartSeries>& series,
                          ChartScale y_scale, const std::vector<std::pair<double, double>>& front) {
  constexpr double kHeight = 320;
  const Frame frame = frame_for(text, series, x_scale_for(series), y_scale, kHeight);
  std::string svg = opening(text, kHeight) + frame.svg;
  std::string steps;
  for (const auto& [x, y] : front) {
    const std::string across = number(frame.x.place(x)), up = number(frame.y.place(y));
    steps += steps.empty() ? concat("M", across, " ", up) : concat("H", across, "V", up);
  }
  if (!steps.empty()) svg += "<path class=\"front\" d=\"" + steps + "\"/>";
  std::vector<Label> labels;
  std::string marks;
  for (const ChartSeries& one : series) {
    for (const auto& [value, quality] : one.points) {
      const double x = frame.x.place(value), y = frame.y.place(quality);
      marks += mark(one.style, x, y);
      labels.push_back({.text = &one.name, .x = x, .y = y});
    }
  }
  return svg + labels_svg(labels, kHeight - kBottom) + marks + "</svg>";
}

std::string line_chart(const ChartText& text, const std::vector<ChartSeries>& series) {
  constexpr double kHeight = 300;
  const Frame frame =
      frame_for(text, series, ChartScale::kFromZero, ChartScale::kFromZero, kHeight);
  std::string svg = opening(text, kHeight) + frame.svg;
  for (const ChartSeries& one : series) {
    std::string path, marks;
    for (const auto& [x, y] : one.points) {
      path +=
          concat(path.empty() ? "M" : "L", number(frame.x.place(x)), " ", number(frame.y.place(y)));
      marks += mark(one.style, frame.x.place(x), frame.y.place(y));
    }
    svg += concat("<g><title>", html_escape(one.name), "</title><path class=\"l s",
                  one.style % kStyles, "\" stroke-dasharray=\"", kDashes[shape_of(one.style)],
                  "\" d=\"", path, "\"/>", marks, "</g>");
  }
  return svg + "</svg>";
}

std::string roofline_chart(const ChartText& text, const std::vector<ChartSeries>& series,
                           const std::vector<ChartRoof>& roofs) {
  constexpr double kHeight = 420;
  double low = std::numeric_limits<double>::infinity(), high = 0;
  for (const ChartSeries& one : series) {
    for (const auto& [x, y] : one.points) {
      MNEME_CHECK(x > 0 && y > 0, "chart: point (", x, ", ", y, ") of ", one.name,
                  " has no place on logarithmic scales");
      low = std::min(low, x);
      high = std::max(high, x);
    }
  }
  MNEME_CHECK(high > 0, "chart: no points for ", text.title);
  // Roofs go from one decade's edge to another, past every ridge.
  std::vector<ChartSeries> lines;
  for (const ChartRoof& roof : roofs) {
    MNEME_CHECK(roof.level > 0 && roof.slope > 0, "chart: roof ", roof.name, " is ", roof.level,
                " and ", roof.slope, " x");
    if (std::isfinite(roof.level) && std::isfinite(roof.slope))
      high = std::max(high, roof.level / roof.slope);
  }
  low = std::pow(10, std::floor(std::log10(low)));
  high = std::pow(10, std::ceil(std::log10(high)));
  for (const ChartRoof& roof : roofs) {
    const auto at = [&](double x) { return std::min(roof.level, roof.slope * x); };
    ChartSeries line{.name = roof.name, .style = lines.size() + 1, .points = {{low, at(low)}}};
    const double ridge = roof.level / roof.slope;
    if (ridge > low && ridge < high) line.points.emplace_back(ridge, roof.level);
    line.points.emplace_back(high, at(high));
    lines.push_back(std::move(line));
  }
  std::vector<ChartSeries> all = series;
  all.insert(all.end(), lines.begin(), lines.end());
  const Frame frame =
      frame_for(text, all, ChartScale::kLogarithmic, ChartScale::kLogarithmic, kHeight);
  std::string svg = opening(text, kHeight) + frame.svg;
  for (const ChartSeries& line : lines) {
    std::string path;
    for (const auto& [x, y] : line.points)
      path +=
          concat(path.empty() ? "M" : "L", number(frame.x.place(x)), " ", number(frame.y.place(y)));
    svg += concat("<g><title>", html_escape(line.name),
                  "</title><path class=\"l\" style=\"stroke:var(--ink)\" stroke-dasharray=\"",
                  kDashes[shape_of(line.style)], "\" d=\"", path, "\"/></g>");
  }
  std::string marks;
  std::vector<Label> labels;
  for (const ChartSeries& one : series) {
    for (const auto& [x, y] : one.points) {
      marks += concat("<g><title>", html_escape(one.note), "</title>",
                      mark(one.style, frame.x.place(x), frame.y.place(y)), "</g>");
      if (one.name.empty()) continue;
      labels.push_back({.text = &one.name, .x = frame.x.place(x), .y = frame.y.place(y)});
    }
  }
  return svg + labels_svg(labels, kHeight - kBottom) + marks + "</svg>";
}

std::string bar_chart(const ChartText& text, const std::vector<std::string>& bars,
                      const std::vector<BarGroup>& groups,
                      const std::function<std::string(double)>& format) {
  constexpr double kBar = 16, kName = 20, kGap = 12, kNameColumn = 66, kValueColumn = 76;
  MNEME_CHECK(!groups.empty() && !bars.empty(), "chart: no bars for ", text.title);
  double longest = 0;
  for (const BarGroup& group : groups) {
    MNEME_CHECK(group.values.size() == bars.size(), "chart: ", group.name, " has ",
                group.values.size(), " values for ", bars.size(), " bars");
    for (const double value : group.values) {
      MNEME_CHECK(std::isfinite(value) && value >= 0, "chart: a bar of ", group.name, " is ",
                  value);
      longest = std::max(longest, value);
    }
  }
  const double group_height = kName + kBar * static_cast<double>(bars.size()) + kGap;
  const double height = group_height * static_cast<double>(groups.size());
  const double room = kWidth - kNameColumn - kValueColumn;
  std::string svg = opening(text, height);
  double y = 0;
  for (const BarGroup& group : groups) {
    svg +=
        mark(group.style, 7, y + 10) + text_at(18, y + 14, "start", group.name, " class=\"name\"");
    for (size_t i = 0; i < bars.size(); ++i) {
      const double top = y + kName + kBar * static_cast<double>(i);
      const double width = longest > 0 ? group.values[i] / longest * room : 0;
      svg += text_at(kNameColumn - 6, top + 11, "end", bars[i], " class=\"tick\"");
      svg += concat("<rect class=\"b b", i, " s", group.style % kStyles, "\" x=\"",
                    number(kNameColumn), "\" y=\"", number(top + 2), "\" width=\"",
                    number(std::max(width, 1.0)), "\" height=\"", number(kBar - 4), "\"/>");
      svg += text_at(kNameColumn + width + 5, top + 11, "start", format(group.values[i]),
                     " class=\"tick\"");
    }
    y += group_height;
  }
  return svg + "</svg>";
}

std::string legend_marker(size_t style) {
  return concat("<svg class=\"key\" viewBox=\"0 0 34 16\" aria-hidden=\"true\"><path class=\"l s",
                style % kStyles, "\" stroke-dasharray=\"", kDashes[shape_of(style)],
                "\" d=\"M1 8H33\"/>", mark(style, 17, 8), "</svg>");
}

}  // namespace mneme
