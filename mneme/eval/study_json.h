// A study as JSON. study_json(): an array with one object for each task and memory, with the keys of
// comparison_json.h and in `quality` the task's scores. study_result_json() and parse_study_result():
// one cell, as a journal keeps it. Tests: study_json_test.cc.
#pragma once

#include <string>
#include <string_view>

#include "mneme/eval/study.h"

namespace mneme {

// Never fails on text that is not UTF-8: bad bytes become U+FFFD.
std::string study_json(const Study& study);

std::string study_result_json(const StudyResult& result);
// Throws Error on what study_result_json() cannot have written.
StudyResult parse_study_result(std::string_view json);

}  // namespace mneme
