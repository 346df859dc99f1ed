#include "mneme/eval/report_html.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/core/progress.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/svg_chart.h"

namespace mneme {
namespace {

constexpr double kMiB = 1024 * 1024;

double mib(int64_t bytes) { return static_cast<double>(bytes) / kMiB; }

std::string percent(double share) { return fixed_number(100 * share, 1) + " %"; }

std::string rate_text(double rate) { return rate > 0 ? short_number(rate) : "–"; }

struct Column {
  std::string name;
  std::string (*text)(const ComparisonRow& row);
};

// What a row has to show for its quality: the value of the scatter plot and of the table.
struct Measure {
  std::string name, y_label, direction;
  ChartScale scale;
  std::optional<double> (*value)(const ComparisonRow& row);
  std::vector<Column> columns;
};

const Measure& measure_for(ComparisonTask task) {
  static const Measure prompt = {
      "divergence from the reference",
      "Mean KL divergence, nats a token (lower is better)",
      "lower",
      ChartScale::kLogarithmic,
      [](const ComparisonRow& row) -> std::optional<double> {
        if (!row.prompt_quality) return std::nullopt;
        return row.prompt_quality->divergence.mean;
      },
      {{"mean KL, nats",
        [](const ComparisonRow& row) {
          return row.prompt_quality ? short_number(row.prompt_quality->divergence.mean) : "–";
        }},
       {"same top token",
        [](const ComparisonRow& row) {
          return row.prompt_quality ? percent(row.prompt_quality->divergence.top1_agreement) : "–";
        }},
       {"reference answer, log-prob a token", [](const ComparisonRow& row) {
          return row.prompt_quality && row.prompt_quality->answer_tokens > 0
                     ? fixed_number(row.prompt_quality->answer_log_prob, 3)
                     : "–";
        }}}};
  static const Measure text = {
      "perplexity",
      "Perplexity (lower is better)",
      "lower",
      ChartScale::kLinear,
      [](const ComparisonRow& row) -> std::optional<double> {
        if (!row.perplexity_quality) return std::nullopt;
        return row.perplexity_quality->perplexity;
      },
      {{"perplexity",
        [](const ComparisonRow& row) {
          return row.perplexity_quality
                     ? fixed_number(row.perplexity_quality->perplexity, 3) + " ± " +
                           fixed_number(row.perplexity_quality->perplexity_error, 2)
                     : "–";
        }},
       {"against the reference",
        [](const ComparisonRow& row) {
          if (!row.perplexity_quality || !row.perplexity_quality->ratio) return std::string("–");
          const double change = *row.perplexity_quality->ratio - 1;
          return (change > 0 ? "+" : "") + fixed_number(100 * change, 2) + " %";
        }},
       {"mean KL, nats", [](const ComparisonRow& row) {
          return row.perplexity_quality && row.perplexity_quality->divergence
                     ? short_number(row.perplexity_quality->divergence->mean)
                     : "–";
        }}}};
  return task == ComparisonTask::kPerplexity ? text : prompt;
}

std::vector<Column> columns_for(const Measure& measure) {
  std::vector<Column> columns = {
      {"resident", [](const ComparisonRow& row) { return bytes_text(row.resident_bytes); }},
      {"of an f16 cache",
       [](const ComparisonRow& row) {
         return row.logical_bytes > 0 ? percent(static_cast<double>(row.resident_bytes) /
                                                static_cast<double>(row.logical_bytes))
                                      : "–";
       }},
      {"peak", [](const ComparisonRow& row) { return bytes_text(row.peak_bytes); }},
      {"prompt tokens/s", [](const ComparisonRow& row) { return rate_text(row.prefill_rate); }},
      {"decode tokens/s", [](const ComparisonRow& row) { return rate_text(row.decode_rate); }}};
  columns.insert(columns.end(), measure.columns.begin(), measure.columns.end());
  return columns;
}

class Page {
 public:
  Page(const Comparison& comparison, const ReportInfo& info)
      : comparison_(comparison), info_(info), measure_(measure_for(comparison.task)) {}

  std::string html() {
    const std::string title =
        concat("Mneme: ", comparison_.rows.size(),
               comparison_.rows.size() == 1 ? " memory" : " memories", " measured");
    out_ = page_opening(title);
    header();
    charts();
    table();
    answers();
    out_ += how_made_section(info_);
    return out_ +
           "<footer>Resident bytes are what a memory really holds, tables included; an f16 cache "
           "is "
           "what a plain cache of every token would take.</footer></main></body></html>\n";
  }

 private:
  void header() {
    const char* what = comparison_.task == ComparisonTask::kPrompt
                           ? "One prompt, answered under each memory"
                           : "Perplexity of one text under each memory";
    out_ += concat("<header><h1>", what, "</h1><p class=\"lead\">", html_escape(info_.model));
    const auto longest =
        std::ranges::max_element(comparison_.rows, {}, &ComparisonRow::prompt_tokens);
    if (longest != comparison_.rows.end())
      out_ += concat(" · ", grouped_number(longest->prompt_tokens), " tokens");
    out_ +=
        concat(" · reference <code>", html_escape(comparison_.reference), "</code></p></header>");
    if (comparison_.interrupted)
      out_ += "<p class=\"error\">Interrupted: these are the memories measured until then.</p>";
    if (!comparison_.reference_error.empty())
      out_ += concat("<p class=\"error\">The reference could not be had: ",
                     html_escape(comparison_.reference_error), "</p>");
    out_ += "<ul class=\"legend\" aria-label=\"Memories\">";
    for (size_t i = 0; i < comparison_.rows.size(); ++i)
      out_ += concat("<li>", legend_marker(i), "<span class=\"spec\">",
                     html_escape(comparison_.rows[i].label), "</span></li>");
    out_ += "</ul>";
  }

  void card(const std::string& title, const std::string& chart, const std::string& note = "") {
    out_ += chart_card(title, note, chart);
  }

  void charts() {
    out_ += "<section class=\"grid\" aria-label=\"Plots\">";
    quality_chart();
    bytes_chart();
    speed_chart("decode", "Decode speed against context", &SpeedPoint::decode_rate);
    speed_chart("prefill", "Prompt speed against context", &SpeedPoint::prefill_rate);
    out_ += "</section>";
  }

  void quality_chart() {
    std::vector<ChartSeries> series;
    std::string values;
    for (size_t i = 0; i < comparison_.rows.size(); ++i) {
      const ComparisonRow& row = comparison_.rows[i];
      const std::optional<double> value = measure_.value(row);
      if (!value || !std::isfinite(*value)) continue;
      series.push_back({row.label, i, {{mib(row.resident_bytes), *value}}});
      values += concat(values.empty() ? "" : "; ", row.label, ": ", bytes_text(row.resident_bytes),
                       ", ", short_number(*value));
    }
    if (series.empty()) return;
    card("Quality against bytes",
         scatter_chart(
             {"quality", "Quality against resident bytes",
              concat("Each memory's ", measure_.name, " against its resident bytes. ", values, "."),
              "Resident memory, MiB", measure_.y_label},
             series, measure_.scale),
         concat("Best is left and ", measure_.direction, "."));
  }

  void bytes_chart() {
    std::vector<BarGroup> groups;
    std::string values;
    for (size_t i = 0; i < comparison_.rows.size(); ++i) {
      const ComparisonRow& row = comparison_.rows[i];
      if (row.logical_bytes == 0) continue;
      groups.push_back(
          {row.label,
           i,
           {static_cast<double>(row.resident_bytes), static_cast<double>(row.peak_bytes),
            static_cast<double>(row.logical_bytes)}});
      values += concat(values.empty() ? "" : "; ", row.label, ": ", bytes_text(row.resident_bytes),
                       " resident, ", bytes_text(row.peak_bytes), " at its peak, ",
                       bytes_text(row.logical_bytes), " as f16");
    }
    if (groups.empty()) return;
    card("Bytes", bar_chart({"bytes", "Bytes of each memory", values + ".", "", ""},
                            {"resident", "peak", "as f16"}, groups,
                            [](double bytes) { return bytes_text(static_cast<int64_t>(bytes)); }));
  }

  void speed_chart(const char* id, const char* title, double SpeedPoint::*rate) {
    std::vector<ChartSeries> series;
    std::string values;
    for (size_t i = 0; i < comparison_.rows.size(); ++i) {
      ChartSeries one{comparison_.rows[i].label, i, {}};
      std::string of_row;
      for (const SpeedPoint& point : comparison_.rows[i].speed) {
        if (point.*rate <= 0) continue;
        one.points.emplace_back(static_cast<double>(point.context), point.*rate);
        of_row += concat(of_row.empty() ? "" : ", ", short_number(point.*rate), " at ",
                         grouped_number(point.context));
      }
      if (one.points.empty()) continue;
      values += concat(values.empty() ? "" : "; ", one.name, ": ", of_row);
      series.push_back(std::move(one));
    }
    if (series.empty()) return;
    card(title, line_chart({id, title, "Tokens a second. " + values + ".", "Context, tokens",
                            "Tokens/s (higher is better)"},
                           series));
  }

  void table() {
    const std::vector<Column> columns = columns_for(measure_);
    out_ +=
        "<h2>Figures</h2><div class=\"card wide\"><table class=\"rows\"><thead><tr><th "
        "scope=\"col\">memory</th>";
    for (const Column& column : columns) out_ += "<th scope=\"col\">" + column.name + "</th>";
    out_ += "</tr></thead><tbody>";
    for (size_t i = 0; i < comparison_.rows.size(); ++i) {
      const ComparisonRow& row = comparison_.rows[i];
      out_ += concat("<tr><th scope=\"row\">", legend_marker(i), " <span class=\"spec\">",
                     html_escape(row.label), "</span>");
      if (!row.error.empty()) out_ += "<p class=\"note error\">" + html_escape(row.error) + "</p>";
      out_ += "</th>";
      for (const Column& column : columns)
        out_ += concat("<td data-label=\"", column.name, "\">",
                       row.logical_bytes > 0 ? html_escape(column.text(row)) : "–", "</td>");
      out_ += "</tr>";
    }
    out_ += "</tbody></table></div>";
  }

  void answers() {
    if (comparison_.task != ComparisonTask::kPrompt) return;
    out_ += "<h2>Answers side by side</h2>";
    if (!info_.excerpt.empty())
      out_ += "<p class=\"note\">The prompt ends with:</p><p class=\"answer card\">" +
              html_escape(info_.excerpt) + "</p><p></p>";
    out_ += "<div class=\"grid\">";
    for (size_t i = 0; i < comparison_.rows.size(); ++i) {
      const ComparisonRow& row = comparison_.rows[i];
      out_ += concat("<article class=\"card\"><h3>", legend_marker(i), " <span class=\"spec\">",
                     html_escape(row.label), "</span></h3>");
      if (row.error.empty()) {
        out_ += "<p class=\"note\">" + agreement(row) + "</p><p class=\"answer\">" +
                html_escape(row.text) + "</p>";
      } else {
        out_ += "<p class=\"error\">" + html_escape(row.error) + "</p>";
      }
      out_ += "</article>";
    }
    out_ += "</div>";
  }

  std::string agreement(const ComparisonRow& row) const {
    const std::string count = grouped_number(static_cast<int64_t>(row.tokens.size())) + " tokens";
    if (row.spec == comparison_.reference) return count + "; this is the reference";
    if (!row.prompt_quality || row.prompt_quality->answer_tokens == 0) return count;
    const int64_t same = row.prompt_quality->same_tokens;
    if (same == row.prompt_quality->answer_tokens &&
        same == static_cast<int64_t>(row.tokens.size()))
      return count + "; the same as under the reference";
    return concat(count, "; the first ", grouped_number(same), " as under the reference");
  }

  const Comparison& comparison_;
  const ReportInfo& info_;
  const Measure& measure_;
  std::string out_;
};

}  // namespace

std::string report_html(const Comparison& comparison, const ReportInfo& info) {
  return Page(comparison, info).html();
}

}  // namespace mneme
