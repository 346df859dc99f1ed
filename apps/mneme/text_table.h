// Rows of cells with columns as wide as their widest cell; the first column to the left, the others
// to the right.
#pragma once

#include <algorithm>
#include <ostream>
#include <string>
#include <vector>

namespace mneme::app {

class TextTable {
 public:
  explicit TextTable(std::vector<std::string> titles) : rows_{std::move(titles)} {}

  // As many cells as titles.
  void add(std::vector<std::string> cells) { rows_.push_back(std::move(cells)); }

  void print(std::ostream& out) const {
    std::vector<size_t> widths(rows_.front().size(), 0);
    for (const auto& row : rows_) {
      for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
    }
    for (const auto& row : rows_) {
      std::string line = row[0] + std::string(widths[0] - row[0].size(), ' ');
      for (size_t i = 1; i < row.size(); ++i)
        line += "  " + std::string(widths[i] - row[i].size(), ' ') + row[i];
      out << line << "\n";
    }
  }

 private:
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace mneme::app
