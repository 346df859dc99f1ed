// How many rows a KV head may keep: a share of the text or a number. One of the two is set. Tests:
// evicting_memory_test.cc.
#pragma once

#include <cstdint>
#include <string>

#include "mneme/core/error.h"

namespace mneme {

struct RowBudget {
  double share = 0;  // of the text's tokens, (0, 1]; 0: `rows` counts
  int64_t rows = 0;

  // A share of everything: nothing ever goes, while decoding neither.
  bool everything() const { return rows == 0 && share == 1; }
  // For a text of `length` tokens.
  int64_t of(int64_t length) const {
    // 0.29 * 100 is a little less than 29.
    return rows > 0 ? rows : static_cast<int64_t>(share * static_cast<double>(length) + 1e-9);
  }

  // Throws Error when it can never hold `fixed` rows that are kept whatever they are worth.
  void check(const std::string& policy, int64_t fixed) const {
    MNEME_CHECK(
        (share > 0) != (rows > 0), policy,
        ": expected a budget (a share of the text) or rows (a number), one of the two; got ", share,
        " and ", rows);
    MNEME_CHECK(share <= 1, policy, ": the budget is a share of the text, at most 1, got ", share);
    MNEME_CHECK(rows == 0 || rows > fixed, policy, ": ", rows, " rows cannot hold the ", fixed,
                " that are always kept (window and sink) and one more");
  }

  // Why a text of `length` tokens cannot be cut to this; empty when it can.
  std::string refusal(const std::string& policy, int64_t fixed, int64_t length) const {
    const int64_t kept = of(length);
    if (kept >= length || kept > fixed) return "";
    return concat(policy, ": a budget of ", share, " is ", kept, " of ", length,
                  " rows, and window and sink alone take ", fixed, "; the least for this text is ",
                  static_cast<double>(fixed + 1) / static_cast<double>(length));
  }
};

}  // namespace mneme
