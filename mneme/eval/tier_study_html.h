// A page that shows what schedules of three tiers cost, predicted and measured: the totals as bars, the
// steps of each run as lines. One self-contained HTML text. `mneme profile alisa` writes it. Tests:
// tier_study_html_test.cc.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "mneme/runtime/tier_study.h"

namespace mneme {

// facts: at the foot, name and text. Throws Error on a study without runs.
std::string tier_study_html(const TierStudy& study,
                            const std::vector<std::pair<std::string, std::string>>& facts);

}  // namespace mneme
