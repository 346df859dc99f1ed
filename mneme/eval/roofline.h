// The roofline page of `make bench`: every kernel that the benchmarks measured as operations a second
// over operations a byte, a chart for each benchmark under the multiply-add peak and the read bandwidth
// that it measured, with a table of the same figures. One self-contained HTML text, readable on a phone.
// Tests: roofline_test.cc.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace mneme {

// `reports`: what bench/bench.h writes, {"bench", "machine": {"fma_gflops", "read_gb_per_s", ...},
// "kernels": [{"kernel", "flops_per_byte", "gflops"}]}; those without kernels are passed over. The
// lead names the highest limits that any of them measured; a chart's roofs and a kernel's share are of
// the limits of its own report. Throws Error naming the report that does not fit, and where there is no
// kernel at all.
std::string roofline_html(const std::vector<nlohmann::json>& reports);

}  // namespace mneme
