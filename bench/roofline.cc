// Draws the roofline page from what the benchmarks of one run wrote.
//
//   roofline --out build/bench/roofline.html build/bench/bench_*.json
#include <CLI/CLI.hpp>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "mneme/core/error.h"
#include "mneme/eval/roofline.h"

int main(int argc, char** argv) {
  CLI::App app{"Draws the roofline page of a benchmark run"};
  std::string out;
  std::vector<std::string> inputs;
  app.add_option("--out", out, "HTML file")->required();
  app.add_option("reports", inputs, "JSON files of benchmarks")->required();
  CLI11_PARSE(app, argc, argv);
  try {
    std::vector<nlohmann::json> reports;
    for (const std::string& path : inputs) {
      std::ifstream file(path);
      MNEME_CHECK(file.good(), "roofline: cannot read ", path);
      reports.push_back(nlohmann::json::parse(file, nullptr, false));
      MNEME_CHECK(!reports.back().is_discarded(), "roofline: ", path, " is no JSON");
    }
    std::ofstream page(out);
    page << mneme::roofline_html(reports);
    page.close();
    MNEME_CHECK(page.good(), "roofline: cannot write ", out);
    std::printf("%s\n", out.c_str());
    return 0;
  } catch (const std::exception& error) {
    std::cerr << error.what() << "\n";
    return 2;
  }
}
