// A page that shows one number for every attention head of a model as a map, layers from the top,
// with the strongest heads as a table, and what masking or pruning them does as bars. One
// self-contained HTML text. `mneme heads` writes it. Tests: head_map_html_test.cc.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "mneme/core/head_table.h"
#include "mneme/eval/svg_chart.h"

namespace mneme {

struct HeadMapPage {
  std::string title;
  std::string lead;   // what was measured, in one or two sentences
  std::string value;  // what the number is: "retrieval score"
  HeadTable table;
  int64_t listed =
      12;  // heads in the table: the largest, or of a signed map the largest of each sign
  std::string effect_title, effect_note;  // of the bars
  std::vector<std::string> bars;
  std::vector<BarGroup> effect;                            // empty: no bars
  std::vector<std::pair<std::string, std::string>> facts;  // at the foot, name and text
};

// The map alone: a cell's colour is strong where the value is large against the largest; values below
// zero have a colour of their own and are hatched, so that they differ without colour too. Each cell
// tells its head and value. Throws Error on an empty table and values that are not finite.
std::string head_map_chart(const ChartText& text, const HeadTable& table);

std::string head_map_html(const HeadMapPage& page);

}  // namespace mneme
