#include "mneme/eval/report_page.h"

#include <array>
#include <ctime>
#include <fstream>

#include "mneme/core/error.h"
#include "mneme/eval/html_text.h"
#include "mneme/eval/report_style.h"

namespace mneme {

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

std::string page_opening(const std::string& title, const std::string& style) {
  return concat(
      "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
      "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>",
      html_escape(title), "</title><style>", kReportStyle, style, "</style></head>\n<body><main>");
}

std::string how_made_section(const ReportInfo& info) {
  std::string html = "<h2>How this was made</h2><div class=\"card\"><dl>";
  const auto item = [&](const char* name, const std::string& value, bool code = false) {
    if (value.empty()) return;
    html += concat("<dt>", name, "</dt><dd>", code ? "<code>" : "", html_escape(value),
                   code ? "</code>" : "", "</dd>");
  };
  item("model", info.model);
  item("file", info.file, true);
  item("input", info.input);
  item("machine",
       concat(info.machine, ", ", info.threads, info.threads == 1 ? " thread" : " threads"));
  item("date", info.date);
  item("command", info.command, true);
  return html + "</dl></div>";
}

std::string chart_card(const std::string& title, const std::string& note,
                       const std::string& chart) {
  return concat("<figure class=\"card\" style=\"margin:0\"><figcaption><h3>", html_escape(title),
                "</h3>", note.empty() ? "" : "<p class=\"note\">" + html_escape(note) + "</p>",
                "</figcaption>", chart, "</figure>");
}

}  // namespace mneme
