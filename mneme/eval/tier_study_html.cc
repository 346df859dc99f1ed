#include "mneme/eval/tier_study_html.h"

#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/report_style.h"
#include "mneme/eval/svg_chart.h"

namespace mneme {
namespace {

constexpr double kMilliseconds = 1000;

ChartSeries series_of(const std::string& name, size_t style, const std::vector<TierStep>& steps) {
  ChartSeries series{.name = name, .style = style, .points = {}, .note = {}};
  for (size_t j = 0; j < steps.size(); ++j)
    series.points.emplace_back(static_cast<double>(j + 1), steps[j].time * kMilliseconds);
  return series;
}

std::string steps_card(const TierRun& run, size_t index) {
  const ChartText text{.id = concat("steps", index),
                       .title = "Steps: " + run.name,
                       .description = "Milliseconds of every step, predicted and measured",
                       .x_label = "step",
                       .y_label = "ms"};
  return concat("<section class=\"card\"><h3>", html_escape(run.name),
                "</h3><p class=\"note\">beta ", short_number(run.schedule.beta), " from step ",
                run.schedule.p2, "; every step in milliseconds: ", legend_marker(0), " predicted, ",
                legend_marker(1), " measured</p>",
                line_chart(text, {series_of("predicted", 0, run.predicted),
                                  series_of("measured", 1, run.measured)}),
                "</section>");
}

}  // namespace

std::string tier_study_html(const TierStudy& study,
                            const std::vector<std::pair<std::string, std::string>>& facts) {
  MNEME_CHECK(!study.runs.empty(), "tier study page: no runs");
  std::vector<BarGroup> groups;
  std::string cards;
  for (size_t i = 0; i < study.runs.size(); ++i) {
    const TierRun& run = study.runs[i];
    groups.push_back({.name = run.name,
                      .style = i,
                      .values = {run.predicted_seconds(), run.measured_seconds()}});
    cards += steps_card(run, i);
  }
  const ChartText totals{.id = "totals",
                         .title = "Seconds of all steps",
                         .description = "Predicted and measured seconds of each schedule",
                         .x_label = "seconds",
                         .y_label = ""};
  std::string html = concat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>Three tiers, predicted and "
      "measured</title><style>",
      kReportStyle,
      "</style></head>\n<body><main><h1>Three tiers, predicted and measured</h1><p class=\"lead\">",
      study.trace.size(), " tokens decoded after ", grouped_number(study.prompt),
      ", with everything in the fast tier in ", fixed_number(study.unbounded_seconds, 2),
      " s.</p><div class=\"grid\"><section class=\"card\"><h3>All steps</h3><p "
      "class=\"note\">seconds</p>",
      bar_chart(totals, {"predicted", "measured"}, groups,
                [](double seconds) { return fixed_number(seconds, 2) + " s"; }),
      "</section>", cards, "</div><h2>How it was measured</h2><div class=\"card\"><dl>");
  for (const auto& [name, text] : facts)
    html += concat("<dt>", html_escape(name), "</dt><dd>", html_escape(text), "</dd>");
  return html + "</dl></div></main></body></html>\n";
}

}  // namespace mneme
