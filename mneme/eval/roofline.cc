#include "mneme/eval/roofline.h"

#include <algorithm>

#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/report_style.h"
#include "mneme/eval/svg_chart.h"

namespace mneme {
namespace {

struct Kernel {
  std::string name;
  size_t report = 0;
  double intensity = 0, gflops = 0, share = 0;
  bool bound_by_memory = false;
};

struct Report {
  std::string name, simd;
  int64_t threads = 0;
  double fma_gflops = 0, read_gb_per_s = 0;
};

double positive(const nlohmann::json& object, const char* key, const std::string& where) {
  MNEME_CHECK(object.is_object() && object.contains(key) && object[key].is_number() &&
                  object[key].get<double>() > 0,
              "roofline: ", where, " has no positive ", key);
  return object[key].get<double>();
}

std::string text_of(const nlohmann::json& object, const char* key, const std::string& where) {
  MNEME_CHECK(object.is_object() && object.contains(key) && object[key].is_string(),
              "roofline: ", where, " has no ", key);
  return object[key].get<std::string>();
}

std::string percent(double share) { return fixed_number(100 * share, 0) + " %"; }

std::string roof_text(double gflops, double gb_per_s) {
  return concat("Least of ", short_number(gflops), " GFLOP/s of multiply-adds and ",
                short_number(gb_per_s), " GB/s of reading");
}

// Labels of more than this many markers cover each other and the markers.
constexpr size_t kMostLabels = 16;

// The chart of one report's kernels under its own roofs, numbered as in the table. Of many only those
// nearest to their roof and those furthest below it carry their number.
std::string chart_of(const std::vector<Report>& reports, size_t index,
                     const std::vector<Kernel>& kernels) {
  const Report& report = reports[index];
  std::vector<size_t> own;
  for (size_t i = 0; i < kernels.size(); ++i)
    if (kernels[i].report == index) own.push_back(i);
  std::ranges::stable_sort(own, {}, [&](size_t i) { return kernels[i].share; });
  std::vector<ChartSeries> series;
  for (size_t rank = 0; rank < own.size(); ++rank) {
    const Kernel& kernel = kernels[own[rank]];
    const std::string number = std::to_string(own[rank] + 1);
    const bool labelled =
        rank < kMostLabels / 2 || rank + kMostLabels - kMostLabels / 2 >= own.size();
    series.push_back({.name = labelled ? number : "",
                      .style = index,
                      .points = {{kernel.intensity, kernel.gflops}},
                      .note = concat(number, ". ", kernel.name, ", ", percent(kernel.share))});
  }
  const std::string roof = roof_text(report.fma_gflops, report.read_gb_per_s);
  return concat(
      "<figure class=\"card\" style=\"margin:0\"><figcaption><h3>", html_escape(report.name),
      "</h3></figcaption>",
      roofline_chart({.id = concat("roofline-", index),
                      .title = concat("Kernels of ", report.name, " under the machine's roofs"),
                      .description = concat(own.size(), " kernels. ", roof, "."),
                      .x_label = "operations a byte",
                      .y_label = "GFLOP/s"},
                     series, {{roof, report.fma_gflops, report.read_gb_per_s}}),
      "</figure>");
}

std::string table_row(size_t number, const Kernel& kernel, const std::vector<Report>& reports) {
  const auto cell = [](const char* label, const std::string& text) {
    return concat("<td data-label=\"", label, "\">", html_escape(text), "</td>");
  };
  return concat("<tr><th scope=\"row\">", legend_marker(kernel.report), " ", number, ". ",
                html_escape(kernel.name), "</th>", cell("benchmark", reports[kernel.report].name),
                cell("FLOP a byte", short_number(kernel.intensity)),
                cell("GFLOP/s", short_number(kernel.gflops)),
                cell("limited by", kernel.bound_by_memory ? "reading" : "multiply-adds"),
                cell("share of that limit", percent(kernel.share)), "</tr>");
}

}  // namespace

std::string roofline_html(const std::vector<nlohmann::json>& inputs) {
  std::vector<Report> reports;
  std::vector<Kernel> kernels;
  for (const nlohmann::json& input : inputs) {
    if (!input.is_object() || !input.contains("kernels") || input["kernels"].empty()) continue;
    Report report{.name = text_of(input, "bench", "a report")};
    MNEME_CHECK(input["kernels"].is_array() && input.contains("machine"), "roofline: ", report.name,
                " has no list of kernels with a machine");
    const nlohmann::json& machine = input["machine"];
    report.fma_gflops = positive(machine, "fma_gflops", report.name);
    report.read_gb_per_s = positive(machine, "read_gb_per_s", report.name);
    report.threads = static_cast<int64_t>(positive(machine, "threads", report.name));
    report.simd = text_of(machine, "simd", report.name);
    for (const nlohmann::json& entry : input["kernels"]) {
      Kernel kernel{.name = text_of(entry, "kernel", report.name), .report = reports.size()};
      kernel.intensity = positive(entry, "flops_per_byte", report.name + ": " + kernel.name);
      kernel.gflops = positive(entry, "gflops", report.name + ": " + kernel.name);
      const double memory = report.read_gb_per_s * kernel.intensity;
      kernel.bound_by_memory = memory < report.fma_gflops;
      kernel.share = kernel.gflops / std::min(memory, report.fma_gflops);
      kernels.push_back(std::move(kernel));
    }
    reports.push_back(std::move(report));
  }
  MNEME_CHECK(!kernels.empty(), "roofline: none of ", inputs.size(), " reports has kernels");

  double peak = 0, bandwidth = 0;
  for (const Report& report : reports) {
    peak = std::max(peak, report.fma_gflops);
    bandwidth = std::max(bandwidth, report.read_gb_per_s);
  }
  std::string rows, charts;
  for (size_t i = 0; i < kernels.size(); ++i) rows += table_row(i + 1, kernels[i], reports);
  for (size_t i = 0; i < reports.size(); ++i) charts += chart_of(reports, i, kernels);
  const Report& first = reports.front();
  return concat(
      "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\"><title>Roofline</title><style>",
      kReportStyle, "</style></head><body><main><h1>Roofline</h1><p class=\"lead\">",
      roof_text(peak, bandwidth), ", measured in the same run with ", first.threads,
      first.threads == 1 ? " thread" : " threads", " on ", html_escape(first.simd),
      ". Bytes are those a kernel has to move at the least: a kernel whose data stays in a cache, "
      "or that multiplies bytes instead of float32, may stand above the roof. Each chart has the "
      "roofs that its own benchmark measured; numbers are the table's, and where there are many "
      "only the nearest to their roof and the furthest below it carry one.</p>",
      "<section class=\"grid\" aria-label=\"Plots\">", charts,
      "</section><h2>Figures</h2><div class=\"card wide\"><table "
      "class=\"rows\"><thead><tr><th>kernel</th>"
      "<th>benchmark</th><th>FLOP a byte</th><th>GFLOP/s</th><th>limited by</th>"
      "<th>share of that limit</th></tr></thead><tbody>",
      rows, "</tbody></table></div></main></body></html>\n");
}

}  // namespace mneme
