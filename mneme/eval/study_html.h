// A study as one HTML page that stands alone (report_page.h): for each task quality against bytes and
// against decode speed with the line of what no other memory beats, and its figures; for one prompt
// which tokens each memory kept, as heat maps and in the text itself. Tests: study_html_test.cc.
#pragma once

#include <string>

#include "mneme/eval/report_page.h"
#include "mneme/eval/study.h"

namespace mneme {

// `tokenizer` writes the prompt that is shown.
std::string study_html(const Study& study, const Tokenizer& tokenizer, const ReportInfo& info);

}  // namespace mneme
