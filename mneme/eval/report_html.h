// A comparison as one HTML page that stands alone: no script, no external file, plots as inline SVG
// (svg_chart.h). Readable on a phone, light and dark, with every text from a user or a model
// escaped. Tests: report_html_test.cc.
#pragma once

#include <string>

#include "mneme/eval/comparison.h"

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

std::string report_html(const Comparison& comparison, const ReportInfo& info);

}  // namespace mneme
