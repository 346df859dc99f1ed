// What every benchmark shares: repeated timing with medians, values the compiler must not drop, a
// table for people and JSON for scripts. Header only; the machine's limits are in bench/machine.h.
//
//   void run(Report& report) {
//     const Timing t = time_runs(15, [&] { keep(work()); });
//     report.row({{"shape", "576x576"}, {"gflops", flops / t.median_s / 1e9}});
//   }
//   int main(int argc, char** argv) {
//     return report_main("matmul", argc, argv, run);     // understands --json FILE and --threads N
//   }
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <exception>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "bench/machine.h"
#include "mneme/core/error.h"

namespace mneme::bench {

// Makes `value` look used.
template <typename T>
void keep(const T& value) {
  asm volatile("" : : "g"(&value) : "memory");
}

struct Timing {
  double median_s = 0;
  double min_s = 0;
  double max_s = 0;
};

// Of at least one value.
inline double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

// Seconds of one call of `body`.
template <typename Body>
double time_once(Body&& body) {
  const auto begin = std::chrono::steady_clock::now();
  body();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

struct Race {
  double ours_s = 0, theirs_s = 0;  // medians of one call
  double ratio = 0;                 // median over the pairs of theirs over ours
};

// Calls both in turns, `pairs` >= 1 times after one pair that is not counted: where a machine is
// shared, what one minute gave says little about the next.
template <typename Ours, typename Theirs>
Race race(int pairs, Ours&& ours, Theirs&& theirs) {
  MNEME_CHECK(pairs >= 1, "race: pairs must be at least 1, got ", pairs);
  ours();
  theirs();
  std::vector<double> mine, others, ratios;
  for (int i = 0; i < pairs; ++i) {
    mine.push_back(time_once(ours));
    others.push_back(time_once(theirs));
    ratios.push_back(others.back() / mine.back());
  }
  return {median(mine), median(others), median(ratios)};
}

// Times `runs` >= 1 calls of `body` after one that is not counted.
template <typename Body>
Timing time_runs(int runs, Body&& body) {
  MNEME_CHECK(runs >= 1, "time_runs: runs must be at least 1, got ", runs);
  body();
  std::vector<double> seconds(static_cast<size_t>(runs));
  for (double& s : seconds) s = time_once(body);
  std::sort(seconds.begin(), seconds.end());
  return {median(seconds), seconds.front(), seconds.back()};
}

// Collects rows {column: value}, prints them as one table, and writes
// {"bench", "machine": {...}, "rows": [...], "kernels": [...]} where --json FILE asked for it.
class Report {
 public:
  using Row = std::vector<std::pair<std::string, nlohmann::ordered_json>>;

  Report(std::string name, int argc, char** argv) : name_(std::move(name)) {
    for (int i = 1; i < argc; ++i) {
      const std::string argument = argv[i];
      MNEME_CHECK((argument == "--json" || argument == "--threads") && i + 1 < argc, name_,
                  ": expected --json FILE or --threads N, got '", argument, "'");
      const std::string value = argv[++i];
      if (argument == "--json") {
        json_path_ = value;
      } else {
        threads_ = std::atoi(value.c_str());
        MNEME_CHECK(threads_ >= 1, name_, ": --threads must be at least 1, got '", value, "'");
      }
    }
  }

  int threads() const { return threads_; }

  // The limits for threads(), measured at the first call.
  const MachineLimits& limits() {
    if (limits_.threads == 0) limits_ = measure_limits(threads_);
    return limits_;
  }

  // The larger of the limits measured before and after `body`: where a machine is shared, its
  // bandwidth moves by half from one minute to the next. Those of the report grow with them.
  template <typename Body>
  MachineLimits limits_around(Body&& body) {
    const MachineLimits before = measure_limits(threads_);
    body();
    const MachineLimits both = larger(before, measure_limits(threads_));
    limits_ = larger(both, limits_);
    return both;
  }

  void row(const Row& values) {
    nlohmann::ordered_json object;
    for (const auto& [column, value] : values) object[column] = value;
    rows_.push_back(std::move(object));
  }

  // One point of the roofline plot (tools/bench.sh draws it): `flops` operations and `bytes` moved
  // to or from memory at the least, in `seconds`.
  void kernel(std::string name, double flops, double bytes, double seconds) {
    MNEME_CHECK(flops > 0 && bytes > 0 && seconds > 0, name_, ": kernel ", name, " did ", flops,
                " operations on ", bytes, " bytes in ", seconds, " s");
    kernels_.push_back({{"kernel", std::move(name)},
                        {"flops_per_byte", flops / bytes},
                        {"gflops", flops / seconds / 1e9}});
  }

  void finish() {
    const MachineLimits& machine = limits();
    std::printf(
        "%s: %d threads, %s, FMA %.1f GFLOP/s, bf16 %.1f GFLOP/s, read %.1f GB/s, copy %.1f GB/s\n",
        name_.c_str(), machine.threads, machine.simd.c_str(), machine.fma_gflops,
        machine.bf16_gflops, machine.read_gb_per_s, machine.copy_gb_per_s);
    print_table();
    if (json_path_.empty()) return;
    nlohmann::ordered_json report;
    report["bench"] = name_;
    report["machine"] = {{"threads", machine.threads},
                         {"simd", machine.simd},
                         {"fma_gflops", machine.fma_gflops},
                         {"bf16_gflops", machine.bf16_gflops},
                         {"read_gb_per_s", machine.read_gb_per_s},
                         {"copy_gb_per_s", machine.copy_gb_per_s}};
    report["rows"] = rows_;
    report["kernels"] = kernels_;
    std::ofstream file(json_path_);
    file << report.dump(2) << '\n';
    file.close();
    MNEME_CHECK(file.good(), name_, ": cannot write ", json_path_);
  }

 private:
  static MachineLimits larger(MachineLimits a, const MachineLimits& b) {
    a.fma_gflops = std::max(a.fma_gflops, b.fma_gflops);
    a.bf16_gflops = std::max(a.bf16_gflops, b.bf16_gflops);
    a.read_gb_per_s = std::max(a.read_gb_per_s, b.read_gb_per_s);
    a.copy_gb_per_s = std::max(a.copy_gb_per_s, b.copy_gb_per_s);
    return a;
  }

  static std::string cell(const nlohmann::ordered_json& value) {
    if (value.is_string()) return value.get<std::string>();
    if (!value.is_number_float()) return value.dump();
    char text[32];
    std::snprintf(text, sizeof(text), "%.4g", value.get<double>());
    return text;
  }

  // Columns in the order of their first appearance.
  void print_table() const {
    std::vector<std::string> columns;
    for (const auto& row : rows_)
      for (const auto& item : row.items())
        if (std::find(columns.begin(), columns.end(), item.key()) == columns.end())
          columns.push_back(item.key());
    std::vector<std::vector<std::string>> lines = {columns};
    for (const auto& row : rows_) {
      lines.emplace_back();
      for (const std::string& column : columns)
        lines.back().push_back(row.contains(column) ? cell(row[column]) : "");
    }
    for (const auto& line : lines) {
      for (size_t i = 0; i < columns.size(); ++i) {
        size_t width = 0;
        for (const auto& other : lines) width = std::max(width, other[i].size());
        std::printf("%s%-*s", i == 0 ? "" : "  ", static_cast<int>(width), line[i].c_str());
      }
      std::printf("\n");
    }
  }

  std::string name_;
  std::string json_path_;
  int threads_ = 1;
  MachineLimits limits_;
  std::vector<nlohmann::ordered_json> rows_;
  nlohmann::ordered_json kernels_ = nlohmann::ordered_json::array();
};

// All of a benchmark's main(): `measure` fills the report, which is then finished. Returns 0, or 2
// once an error has been printed, and then no figures are.
template <typename Measure>
int report_main(const std::string& name, int argc, char** argv, Measure&& measure) {
  try {
    Report report(name, argc, argv);
    measure(report);
    report.finish();
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
}

}  // namespace mneme::bench
