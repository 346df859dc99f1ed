// What `mneme compare` was told, for the two ways of comparing: one prompt or text once under every
// memory (compare_prompt.cc), and tasks at many lengths and depths (compare_study.cc).
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "apps/mneme/command.h"
#include "mneme/eval/comparison.h"
#include "mneme/eval/recall.h"
#include "mneme/eval/report_html.h"
#include "mneme/eval/study.h"

namespace mneme::app {

struct CompareOptions {
  ModelOptions model;
  ComparisonOptions compare;
  RecallOptions recall;
  std::vector<std::string> tasks;  // as given; empty: the one that fits
  std::vector<std::string> sweeps;
  std::vector<SweptSpec> memories;  // compare.specs with the sweeps put in
  std::string prompt, file, html, out, budget;
  int64_t tokens = 0;
  std::optional<int64_t> scored;
  bool chat = false, json = false, quiet = false, fresh = false;
  std::string command_line;

  bool has_text() const { return !prompt.empty() || !file.empty(); }
  // Where the text is from, as a person would say.
  std::string source() const {
    return !file.empty() ? file : !prompt.empty() ? "the command line" : "generated text";
  }
};

// Each returns the exit code.
int compare_prompt(CompareOptions options, ComparisonTask task);
int compare_study(const CompareOptions& options, const std::vector<StudyTask>& tasks);

// Everything of ReportInfo but its input and excerpt.
ReportInfo report_info(const CompareOptions& options, Engine& engine);

}  // namespace mneme::app
