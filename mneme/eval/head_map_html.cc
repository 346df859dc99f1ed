#include "mneme/eval/head_map_html.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/report_style.h"

namespace mneme {
namespace {

constexpr double kWidth = 380, kLeft = 40, kRight = 8, kTop = 22, kBottom = 8;
constexpr double kMostCellHeight = 16, kMostCellWidth = 48;
// A value this small against the largest is drawn as nothing.
constexpr double kFaintest = 0.01;

std::string px(double value) { return fixed_number(value, 1); }

std::string label(double x, double y, const char* anchor, const std::string& text) {
  return concat("<text class=\"tick\" x=\"", px(x), "\" y=\"", px(y), "\" text-anchor=\"", anchor,
                "\">", text, "</text>");
}

double largest_of(const HeadTable& table) {
  double largest = 0;
  for (const double value : table.values()) {
    MNEME_CHECK(std::isfinite(value), "head map: a value is not finite");
    largest = std::max(largest, std::abs(value));
  }
  return largest;
}

std::string head_rows(const HeadMapPage& page) {
  std::vector<HeadId> heads = page.table.ranking();
  const auto listed = static_cast<size_t>(std::min(page.listed, std::ssize(heads)));
  std::vector<HeadId> shown(heads.begin(), heads.begin() + static_cast<int64_t>(listed));
  // Of a signed map the other end too.
  for (size_t i = heads.size(); i-- > listed && heads.size() - i <= listed;)
    if (page.table.at(heads[i]) < 0) shown.push_back(heads[i]);
  std::string rows;
  for (const HeadId& head : shown) {
    rows += concat("<tr><th scope=\"row\">layer ", head.layer, ", head ", head.head, "</th><td>",
                   fixed_number(page.table.at(head), 3), "</td></tr>");
  }
  return rows;
}

}  // namespace

std::string head_map_chart(const ChartText& text, const HeadTable& table) {
  MNEME_CHECK(table.layers() > 0, "head map: no heads");
  const double largest = largest_of(table);
  const double width =
      std::min(kMostCellWidth, (kWidth - kLeft - kRight) / static_cast<double>(table.heads()));
  const double height = std::min(kMostCellHeight, std::max(6.0, width));
  const double bottom = kTop + height * static_cast<double>(table.layers());
  const std::string id = html_escape(text.id);
  std::string svg =
      concat("<svg viewBox=\"0 0 ", px(kWidth), " ", px(bottom + kBottom),
             "\" role=\"img\" aria-labelledby=\"", id, "-t ", id, "-d\"><title id=\"", id, "-t\">",
             html_escape(text.title), "</title><desc id=\"", id, "-d\">",
             html_escape(text.description), "</desc><defs><pattern id=\"", id,
             "-h\" width=\"4\" height=\"4\" patternUnits=\"userSpaceOnUse\"><path d=\"M0 4L4 0\" "
             "stroke=\"var(--card)\" stroke-width=\"1.2\"/></pattern></defs>");
  const int64_t every = std::max<int64_t>(1, static_cast<int64_t>(std::ceil(24 / width)));
  for (int64_t head = 0; head < table.heads(); head += every)
    svg += label(kLeft + width * (static_cast<double>(head) + 0.5), kTop - 7, "middle",
                 std::to_string(head));
  for (int64_t layer = 0; layer < table.layers(); ++layer) {
    const double y = kTop + height * static_cast<double>(layer);
    if (layer % 5 == 0) svg += label(kLeft - 6, y + height / 2 + 4.5, "end", std::to_string(layer));
    for (int64_t head = 0; head < table.heads(); ++head) {
      const double value = table.at({layer, head});
      const double strength = largest > 0 ? std::abs(value) / largest : 0;
      const std::string place =
          concat("x=\"", px(kLeft + width * static_cast<double>(head)), "\" y=\"", px(y),
                 "\" width=\"", px(width - 1), "\" height=\"", px(height - 1), "\"");
      svg += concat("<g><title>layer ", layer, ", head ", head, ": ", fixed_number(value, 3),
                    "</title><rect ", place, " fill=\"var(--grid)\"/>");
      if (strength >= kFaintest) {
        svg += concat("<rect ", place, " fill=\"var(", value < 0 ? "--s1" : "--s0",
                      ")\" fill-opacity=\"", fixed_number(0.1 + 0.9 * strength, 2), "\"/>");
        if (value < 0) svg += concat("<rect ", place, " fill=\"url(#", id, "-h)\"/>");
      }
      svg += "</g>";
    }
  }
  return svg + "</svg>";
}

std::string head_map_html(const HeadMapPage& page) {
  const std::string chart = head_map_chart(
      {.id = "heads",
       .title = concat(page.value, " of every attention head"),
       .description = concat("A cell a head: ", page.table.layers(), " layers from the top, ",
                             page.table.heads(), " query heads from the left.")},
      page.table);
  std::string html = concat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>",
      html_escape(page.title), "</title><style>", kReportStyle, "</style></head>\n<body><main><h1>",
      html_escape(page.title), "</h1><p class=\"lead\">", html_escape(page.lead),
      "</p><div class=\"grid\"><section class=\"card\"><h3>Map of heads</h3><p class=\"note\">",
      html_escape(page.value), ": layers from the top, query heads from the left, full colour at ",
      fixed_number(largest_of(page.table), 3), "</p>", chart,
      "</section><section class=\"card\"><h3>Strongest "
      "heads</h3><table><thead><tr><th>head</th><th>",
      html_escape(page.value), "</th></tr></thead><tbody>", head_rows(page),
      "</tbody></table></section>");
  if (!page.effect.empty()) {
    html += concat(
        "<section class=\"card\"><h3>", html_escape(page.effect_title), "</h3><p class=\"note\">",
        html_escape(page.effect_note), "</p>",
        bar_chart({.id = "effect", .title = page.effect_title, .description = page.effect_note},
                  page.bars, page.effect, [](double value) { return fixed_number(value, 2); }),
        "</section>");
  }
  html += "</div><h2>How it was measured</h2><div class=\"card\"><dl>";
  for (const auto& [name, text] : page.facts)
    html += concat("<dt>", html_escape(name), "</dt><dd>", html_escape(text), "</dd>");
  return html + "</dl></div></main></body></html>\n";
}

}  // namespace mneme
