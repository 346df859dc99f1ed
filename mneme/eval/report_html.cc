#include "mneme/eval/report_html.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <ctime>
#include <fstream>

#include "mneme/core/error.h"
#include "mneme/core/progress.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/report_style.h"
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
  static const Measure needle = {
      "log-probability of the hidden keys",
      "Mean log-probability a token (higher is better)",
      "higher",
      ChartScale::kFromZero,
      [](const ComparisonRow& row) -> std::optional<double> {
        if (!row.needle_quality) return std::nullopt;
        return row.needle_quality->summary.mean_log_prob;
      },
      {{"log-prob a token",
        [](const ComparisonRow& row) {
          return row.needle_quality ? fixed_number(row.needle_quality->summary.mean_log_prob, 3)
                                    : "–";
        }},
       {"found exactly", [](const ComparisonRow& row) {
          return row.needle_quality ? percent(row.needle_quality->summary.exact_rate) : "–";
        }}}};
  switch (task) {
    case ComparisonTask::kPerplexity:
      return text;
    case ComparisonTask::kNeedle:
      return needle;
    default:
      return prompt;
  }
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
    out_ =
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
        "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>" +
        html_escape(title) + "</title><style>" + kReportStyle + "</style></head>\n<body><main>";
    header();
    charts();
    table();
    needles();
    answers();
    how();
    return out_ +
           "<footer>Resident bytes are what a memory really holds, tables included; an f16 cache "
           "is "
           "what a plain cache of every token would take.</footer></main></body></html>\n";
  }

 private:
  void header() {
    const char* what = comparison_.task == ComparisonTask::kPrompt
                           ? "One prompt, answered under each memory"
                       : comparison_.task == ComparisonTask::kPerplexity
                           ? "Perplexity of one text under each memory"
                           : "Hidden pass keys, looked for under each memory";
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
    out_ += concat("<figure class=\"card\" style=\"margin:0\"><figcaption><h3>", html_escape(title),
                   "</h3>", note.empty() ? "" : "<p class=\"note\">" + html_escape(note) + "</p>",
                   "</figcaption>", chart, "</figure>");
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

  void needles() {
    if (comparison_.task != ComparisonTask::kNeedle) return;
    out_ +=
        "<h2>Keys found, by length and depth</h2><p class=\"note\">✓ greedy decoding gives the "
        "key exactly; below it the mean log-probability of its tokens.</p><div class=\"grid\">";
    for (size_t i = 0; i < comparison_.rows.size(); ++i) {
      if (!comparison_.rows[i].needle_quality) continue;
      const std::vector<NeedleScore>& scores = comparison_.rows[i].needle_quality->scores;
      std::vector<int64_t> lengths;
      std::vector<double> depths;
      for (const NeedleScore& score : scores) {
        lengths.push_back(score.length);
        depths.push_back(score.depth);
      }
      for (auto* sorted : {&lengths}) std::ranges::sort(*sorted);
      std::ranges::sort(depths);
      lengths.erase(std::unique(lengths.begin(), lengths.end()), lengths.end());
      depths.erase(std::unique(depths.begin(), depths.end()), depths.end());
      out_ += concat("<div class=\"card wide\"><h3>", legend_marker(i), " <span class=\"spec\">",
                     html_escape(comparison_.rows[i].label),
                     "</span></h3><table><thead><tr><th scope=\"col\">depth</th>");
      for (const int64_t length : lengths)
        out_ += "<th scope=\"col\">" + grouped_number(length) + "</th>";
      out_ += "</tr></thead><tbody>";
      for (const double depth : depths) {
        out_ += "<tr><th scope=\"row\">" + short_number(100 * depth) + " %</th>";
        for (const int64_t length : lengths) out_ += needle_cell(scores, length, depth);
        out_ += "</tr>";
      }
      out_ += "</tbody></table></div>";
    }
    out_ += "</div>";
  }

  static std::string needle_cell(const std::vector<NeedleScore>& scores, int64_t length,
                                 double depth) {
    for (const NeedleScore& score : scores) {
      if (score.length != length || score.depth != depth) continue;
      return concat("<td title=\"key ", html_escape(score.answer), ", answered",
                    html_escape(score.greedy), "\"><span class=\"",
                    score.exact ? "hit\">✓ found" : "miss\">✗ missed", "</span><br>",
                    fixed_number(score.log_prob_per_token(), 2), "</td>");
    }
    return "<td>–</td>";
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

  void how() {
    out_ += "<h2>How this was made</h2><div class=\"card\"><dl>";
    const auto item = [&](const char* name, const std::string& value, bool code = false) {
      if (value.empty()) return;
      out_ += concat("<dt>", name, "</dt><dd>", code ? "<code>" : "", html_escape(value),
                     code ? "</code>" : "", "</dd>");
    };
    item("model", info_.model);
    item("file", info_.file, true);
    item("input", info_.input);
    item("machine",
         concat(info_.machine, ", ", info_.threads, info_.threads == 1 ? " thread" : " threads"));
    item("date", info_.date);
    item("command", info_.command, true);
    out_ += "</dl></div>";
  }

  const Comparison& comparison_;
  const ReportInfo& info_;
  const Measure& measure_;
  std::string out_;
};

}  // namespace

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(": ");
    if (line.starts_with("model name") && colon != std::string::npos) return line.substr(colon + 2);
  }
  return "unknown processor";
}

std::string date_now() {
  const std::time_t now = std::time(nullptr);
  std::tm parts{};
  gmtime_r(&now, &parts);
  std::array<char, 64> text;
  std::strftime(text.data(), text.size(), "%Y-%m-%d %H:%M UTC", &parts);
  return text.data();
}

std::string report_html(const Comparison& comparison, const ReportInfo& info) {
  return Page(comparison, info).html();
}

}  // namespace mneme
