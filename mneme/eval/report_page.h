// What every report page has: its beginning, and at its foot how it was made. A page stands alone: no
// script, no external file; readable on a phone, light and dark. Tests: report_html_test.cc,
// study_html_test.cc.
#pragma once

#include <string>

namespace mneme {

// How the comparison was made, as the page tells it.
struct ReportInfo {
  std::string model;    // "SmolLM2 135M Instruct (llama)"
  std::string file;     // the model's path
  std::string input;    // "prompt of docs/demo/prompt.txt", shown as it is
  std::string excerpt;  // the end of the prompt, or empty
  std::string machine;  // processor
  int threads = 0;
  std::string date;     // "2026-11-24 07:30 UTC"
  std::string command;  // the command line
};

// The processor's name as the system tells it ("AMD EPYC"), or "unknown processor".
std::string processor_name();
// The time now in UTC, as ReportInfo::date.
std::string date_now();

// Up to and with the opening tag of <main>. `style` is added to that of every page.
std::string page_opening(const std::string& title, const std::string& style = "");
// "How this was made", every text escaped; what is empty is left out.
std::string how_made_section(const ReportInfo& info);
// A chart as a card with a heading and a note.
std::string chart_card(const std::string& title, const std::string& note, const std::string& chart);

}  // namespace mneme
