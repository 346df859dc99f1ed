#include "mneme/eval/study_html.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "mneme/core/error.h"
#include "mneme/core/progress.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/kept_tokens_html.h"
#include "mneme/eval/study_summary.h"
#include "mneme/eval/svg_chart.h"

namespace mneme {
namespace {

std::string percent(double share) { return fixed_number(100 * share, 1) + " %"; }
std::string rate_text(double rate) { return rate > 0 ? short_number(rate) : "–"; }

// How a task is told.
struct TaskWords {
  const char *title, *what, *y_label;
  ChartScale scale;
};

TaskWords words_for(StudyTask task) {
  constexpr const char* kLogProb = "Mean log-probability a token (higher is better)";
  switch (task) {
    case StudyTask::kNeedle:
      return {"Needle", "One pass key is hidden in a long text; the answer is its five digits.",
              kLogProb, ChartScale::kFromZero};
    case StudyTask::kMultiKey:
      return {"Needle among needles",
              "Several pass keys with names are hidden in one text; the question asks for one of "
              "them.",
              kLogProb, ChartScale::kFromZero};
    case StudyTask::kVariableTracking:
      return {"Variable tracking",
              "Assignments pass a value from variable to variable; the answer names every variable "
              "that holds it.",
              kLogProb, ChartScale::kFromZero};
    case StudyTask::kAggregation:
      return {"Aggregation",
              "A long list of words; the answer names the three that come up most often.", kLogProb,
              ChartScale::kFromZero};
    case StudyTask::kPerplexity:
      return {"Perplexity",
              "The last tokens of a real text, one by one after the others were read as a prompt.",
              "Perplexity (lower is better)", ChartScale::kLinear};
    case StudyTask::kDivergence:
      return {"Divergence from the reference",
              "How far the next-token distribution moves over the last tokens of a real text.",
              "Mean KL, nats a token (lower is better)", ChartScale::kLogarithmic};
  }
  return {};
}

struct Column {
  std::string name;
  std::function<std::string(const StudySummary&)> text;
};

class Page {
 public:
  Page(const Study& study, const Tokenizer& tokenizer, const ReportInfo& info)
      : study_(study), tokenizer_(tokenizer), info_(info) {
    for (const SweptSpec& memory : study.memories) {
      if (std::ranges::count(families_, memory.family) == 0) families_.push_back(memory.family);
    }
  }

  std::string html() {
    out_ = page_opening(
        concat("Mneme: ", study_.memories.size(), " memories on ", study_.tasks.size(), " tasks"),
        kKeptStyle);
    header();
    for (const StudyTask task : study_.tasks) section(task);
    kept();
    out_ += how_made_section(info_);
    return out_ +
           "<footer>Resident bytes are what a memory really holds after its longest prompt, tables "
           "included; an f16 cache is what a plain cache of every token would take. Decode speed "
           "is "
           "measured after the longest prompt. A dashed line joins the memories that no other one "
           "beats in both.</footer></main></body></html>\n";
  }

 private:
  size_t style_of(size_t memory) const {
    return static_cast<size_t>(std::ranges::find(families_, study_.memories[memory].family) -
                               families_.begin());
  }
  // Short where the legend has the rest.
  const std::string& short_name(size_t memory) const {
    const SweptSpec& swept = study_.memories[memory];
    return swept.values.empty() ? swept.spec : swept.values;
  }
  std::string name_of(size_t memory) const {
    return concat(legend_marker(style_of(memory)), " <span class=\"spec\">",
                  html_escape(study_.memories[memory].spec), "</span>");
  }

  void header() {
    std::string tasks;
    for (const StudyTask task : study_.tasks)
      tasks += concat(tasks.empty() ? "" : ", ", task_name(task));
    out_ +=
        concat("<header><h1>", study_.memories.size(), " memories compared</h1><p class=\"lead\">",
               html_escape(info_.model), " · ", tasks, "</p></header>");
    const auto missing = std::ranges::count_if(
        study_.cells, [](const StudyCell& cell) { return !cell.result.has_value(); });
    if (missing > 0)
      out_ += concat("<p class=\"error\">Interrupted: ", missing, " of ", study_.cells.size(),
                     " parts are missing. The same command goes on.</p>");
    out_ += "<ul class=\"legend\" aria-label=\"Memories\">";
    for (size_t i = 0; i < families_.size(); ++i)
      out_ += concat("<li>", legend_marker(i), "<span class=\"spec\">", html_escape(families_[i]),
                     "</span></li>");
    out_ += "</ul>";
  }

  void section(StudyTask task) {
    const TaskWords words = words_for(task);
    out_ += concat("<h2>", words.title, "</h2><p class=\"note\">", words.what, "</p>");
    std::vector<StudySummary> summaries;
    for (size_t memory = 0; memory < study_.memories.size(); ++memory)
      summaries.push_back(summarise(study_, task, memory));
    out_ += "<div class=\"grid\">";
    chart(
        task, summaries, "bytes", "Quality against resident bytes", "Resident memory, MiB",
        "Best is left",
        [](const StudySummary& summary) {
          return static_cast<double>(summary.resident_bytes) / (1024 * 1024);
        },
        true);
    chart(
        task, summaries, "speed", "Quality against decode speed", "Decode speed, tokens/s",
        "Best is right", [](const StudySummary& summary) { return summary.decode_rate; }, false);
    out_ += "</div>";
    table(task, summaries);
    if (!is_text_task(task)) cases(task);
  }

  void chart(StudyTask task, const std::vector<StudySummary>& summaries, const char* id,
             const char* title, const char* x_label, const char* best,
             const std::function<double(const StudySummary&)>& x_of, bool less_is_better) {
    std::vector<ChartSeries> series;
    std::vector<std::pair<double, double>> points, ranked;
    std::string values;
    const bool higher = higher_is_better(task);
    for (size_t memory = 0; memory < summaries.size(); ++memory) {
      const auto quality = summaries[memory].quality(task);
      const double x = x_of(summaries[memory]);
      if (!quality || !std::isfinite(*quality) || x <= 0) continue;
      series.push_back({short_name(memory), style_of(memory), {{x, *quality}}});
      points.emplace_back(x, *quality);
      ranked.emplace_back(less_is_better ? x : -x, higher ? *quality : -*quality);
      values += concat(values.empty() ? "" : "; ", study_.memories[memory].spec, ": ",
                       short_number(x), ", ", short_number(*quality));
    }
    if (series.empty()) return;
    std::vector<std::pair<double, double>> front;
    for (const size_t i : pareto_front(ranked)) front.push_back(points[i]);
    out_ += chart_card(
        title, concat(best, " and ", higher ? "higher" : "lower", "."),
        scatter_chart({concat(task_name(task), "-", id), title, values + ".", x_label,
                       words_for(task).y_label},
                      series, words_for(task).scale, front.size() > 1 ? front : decltype(front)()));
  }

  static std::vector<Column> quality_columns(StudyTask task) {
    if (task == StudyTask::kPerplexity)
      return {{"perplexity", [](const StudySummary& summary) {
                 const double value = std::exp(summary.text->mean_nll);
                 return fixed_number(value, 3) + " ± " +
                        fixed_number(value * summary.text->standard_error, 2);
               }}};
    if (task == StudyTask::kDivergence)
      return {
          {"mean KL, nats",
           [](const StudySummary& summary) {
             return short_number(summary.text->divergence->mean);
           }},
          {"99th percentile",
           [](const StudySummary& summary) { return short_number(summary.text->divergence->p99); }},
          {"same top token", [](const StudySummary& summary) {
             return percent(summary.text->divergence->top1_agreement);
           }}};
    return {{"log-prob a token",
             [](const StudySummary& summary) {
               return fixed_number(summary.recall->mean_log_prob, 3);
             }},
            {"answered exactly",
             [](const StudySummary& summary) { return percent(summary.recall->exact_rate); }},
            {"parts found",
             [](const StudySummary& summary) { return percent(summary.recall->found_rate); }}};
  }

  void table(StudyTask task, const std::vector<StudySummary>& summaries) {
    std::vector<Column> columns = quality_columns(task);
    columns.push_back({"resident", [](const StudySummary& summary) {
                         return bytes_text(summary.resident_bytes);
                       }});
    columns.push_back({"of an f16 cache", [](const StudySummary& summary) {
                         return percent(static_cast<double>(summary.resident_bytes) /
                                        static_cast<double>(summary.logical_bytes));
                       }});
    columns.push_back(
        {"peak", [](const StudySummary& summary) { return bytes_text(summary.peak_bytes); }});
    columns.push_back({"prompt tokens/s", [](const StudySummary& summary) {
                         return rate_text(summary.prefill_rate);
                       }});
    columns.push_back({"decode tokens/s",
                       [](const StudySummary& summary) { return rate_text(summary.decode_rate); }});
    out_ +=
        "<div class=\"card wide\" style=\"margin-top:16px\"><table class=\"rows\"><thead><tr><th "
        "scope=\"col\">memory</th>";
    for (const Column& column : columns) out_ += "<th scope=\"col\">" + column.name + "</th>";
    out_ += "</tr></thead><tbody>";
    for (size_t memory = 0; memory < summaries.size(); ++memory) {
      const StudySummary& summary = summaries[memory];
      out_ += "<tr><th scope=\"row\">" + name_of(memory);
      if (!summary.error.empty())
        out_ += "<p class=\"note error\">" + html_escape(summary.error) + "</p>";
      out_ += "</th>";
      for (const Column& column : columns)
        out_ += concat("<td data-label=\"", column.name, "\">",
                       summary.quality(task) ? html_escape(column.text(summary)) : "–", "</td>");
      out_ += "</tr>";
    }
    out_ += "</tbody></table></div>";
  }

  void cases(StudyTask task) {
    std::set<int64_t> lengths;
    std::set<std::optional<double>> depths;
    for (const StudyCell& cell : study_.cells) {
      if (cell.task != task) continue;
      lengths.insert(cell.length);
      depths.insert(cell.depth);
    }
    out_ +=
        "<details class=\"card\" style=\"margin-top:16px\"><summary>By length and "
        "depth</summary><p class=\"note\">✓ greedy decoding gives the answer exactly; below it the "
        "mean log-probability of its tokens.</p><div class=\"grid\">";
    for (size_t memory = 0; memory < study_.memories.size(); ++memory) {
      out_ += concat("<div class=\"wide\"><h3>", name_of(memory),
                     "</h3><table><thead><tr><th scope=\"col\">depth</th>");
      for (const int64_t length : lengths)
        out_ += "<th scope=\"col\">" + grouped_number(length) + "</th>";
      out_ += "</tr></thead><tbody>";
      for (const std::optional<double>& depth : depths) {
        out_ += concat("<tr><th scope=\"row\">",
                       depth ? short_number(100 * *depth) + " %" : std::string("all"), "</th>");
        for (const int64_t length : lengths) out_ += case_cell(task, memory, length, depth);
        out_ += "</tr>";
      }
      out_ += "</tbody></table></div>";
    }
    out_ += "</div></details>";
  }

  std::string case_cell(StudyTask task, size_t memory, int64_t length,
                        const std::optional<double>& depth) const {
    for (const StudyCell& cell : study_.cells) {
      if (cell.task != task || cell.memory != memory || cell.length != length ||
          cell.depth != depth || !cell.result || !cell.result->recall)
        continue;
      const RecallScore& score = *cell.result->recall;
      return concat("<td title=\"asked for ", html_escape(score.answer), ", answered",
                    html_escape(score.greedy), "\"><span class=\"",
                    score.exact ? "hit\">✓" : "miss\">✗", "</span> ",
                    fixed_number(score.log_prob_per_token(), 2), "</td>");
    }
    return "<td>–</td>";
  }

  void kept() {
    std::vector<const StudyCell*> maps;
    for (const StudyCell& cell : study_.cells) {
      if (cell.shown && cell.result && cell.result->kept &&
          cell.result->kept->tokens == std::ssize(study_.shown))
        maps.push_back(&cell);
    }
    if (maps.empty()) return;
    const StudyCell& first = *maps.front();
    const std::string prompt = concat(
        words_for(first.task).title, ", ", grouped_number(std::ssize(study_.shown)), " tokens",
        first.depth ? concat(", depth ", short_number(100 * *first.depth), " %") : std::string());
    out_ +=
        concat("<h2>What was kept, head by head</h2><p class=\"note\">After one prompt (", prompt,
               "): layers from the top and in each its KV heads, tokens from the left; full "
               "colour where a head holds every token. Memories that hold everything, and those "
               "that choose tokens before they are written, have no map.</p><div class=\"grid\">");
    for (size_t i = 0; i < maps.size(); ++i) {
      const std::string& name = study_.memories[maps[i]->memory].spec;
      const std::string summary = kept_summary(*maps[i]->result->kept);
      out_ += chart_card(
          name, summary,
          kept_map_chart({concat("kept-", i), "Tokens that " + name + " kept", summary, "", ""},
                         *maps[i]->result->kept));
    }
    out_ += concat(
        "</div><h2>The prompt, as it was kept</h2><p class=\"note\">The stronger the background, "
        "the "
        "more layers and heads hold the token: none <span class=\"scale kept\" "
        "style=\"margin:0\">");
    for (int level = 0; level <= 8; ++level) out_ += concat("<span class=\"k", level, "\"></span>");
    out_ += "</span> all.</p>";
    for (size_t i = 0; i < maps.size(); ++i)
      out_ +=
          concat("<details class=\"card\"", i == 0 ? " open" : "", "><summary>",
                 name_of(maps[i]->memory), "</summary>",
                 kept_text_html(tokenizer_, study_.shown, *maps[i]->result->kept), "</details>");
  }

  const Study& study_;
  const Tokenizer& tokenizer_;
  const ReportInfo& info_;
  std::vector<std::string> families_;
  std::string out_;
};

}  // namespace

std::string study_html(const Study& study, const Tokenizer& tokenizer, const ReportInfo& info) {
  return Page(study, tokenizer, info).html();
}

}  // namespace mneme
