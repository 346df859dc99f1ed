// Scores of attention heads as a file, in the form the code of papers/40 writes: one JSON object a
// line, from "layer-head" to the head's score in each run.
//
//   {"16-19": [0.94, 1.0], "11-15": [0.92, 0.875]}
//
// `mneme heads` writes it; the memory `retrieval-heads(file=...)` reads it. Lists of several lines
// are joined. Tests: head_scores_test.cc, head_scores_fuzz.cc.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "mneme/core/head_table.h"

namespace mneme {

class HeadScores {
 public:
  // One run: a value for every head.
  void add(const HeadTable& run);
  bool empty() const { return lists_.empty(); }
  const std::map<HeadId, std::vector<double>>& lists() const { return lists_; }
  // The mean of each head's runs; 0 for a head without any. Throws Error naming a head that a model
  // of this shape does not have.
  HeadTable mean(int64_t layers, int64_t heads) const;

  std::string text() const;
  // Throws Error naming `origin`, the line and what is wrong with it. Numbers must be finite.
  static HeadScores parse(std::string_view text, const std::string& origin);
  static HeadScores read(const std::string& path);

 private:
  std::map<HeadId, std::vector<double>> lists_;
};

}  // namespace mneme
