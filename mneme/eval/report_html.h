// A comparison as one HTML page that stands alone: no script, no external file, plots as inline SVG
// (svg_chart.h). Readable on a phone, light and dark, with every text from a user or a model
// escaped. Tests: report_html_test.cc.
#pragma once

#include <string>

#include "mneme/eval/comparison.h"
#include "mneme/eval/report_page.h"

namespace mneme {

std::string report_html(const Comparison& comparison, const ReportInfo& info);

}  // namespace mneme
