#include "mneme/eval/roofline.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

nlohmann::json report_of(const std::string& name, nlohmann::json kernels) {
  return {{"bench", name},
          {"machine",
           {{"threads", 2}, {"simd", "AVX3"}, {"fma_gflops", 200.0}, {"read_gb_per_s", 20.0}}},
          {"kernels", std::move(kernels)}};
}

nlohmann::json kernel_of(const std::string& name, double intensity, double gflops) {
  return {{"kernel", name}, {"flops_per_byte", intensity}, {"gflops", gflops}};
}

TEST(Roofline, ShowsEveryKernelWithItsLimit) {
  const std::string html = roofline_html(
      {report_of("matmul", {kernel_of("gemv <q4>", 4, 40), kernel_of("gemm", 100, 150)}),
       report_of("memory", nlohmann::json::array()),
       {{"bench", "older"}, {"rows", nlohmann::json::array()}},
       report_of("attention", {kernel_of("decode", 2, 38)})});
  EXPECT_THAT(html, HasSubstr("1. gemv &lt;q4&gt;</th>"));
  EXPECT_THAT(html, HasSubstr("<td data-label=\"limited by\">reading</td>"
                              "<td data-label=\"share of that limit\">50 %</td>"));
  EXPECT_THAT(html, HasSubstr("<td data-label=\"limited by\">multiply-adds</td>"
                              "<td data-label=\"share of that limit\">75 %</td>"));
  EXPECT_THAT(html, HasSubstr("3. decode</th><td data-label=\"benchmark\">attention</td>"));
  EXPECT_THAT(html, HasSubstr("Least of 200 GFLOP/s of multiply-adds and 20.0 GB/s of reading"));
  EXPECT_THAT(html, HasSubstr("with 2 threads on AVX3"));
  EXPECT_THAT(html, Not(HasSubstr("http")));  // self-contained
  EXPECT_THAT(html, Not(HasSubstr("older")));
}

// Every kernel says its name under a pointer; of many only the ends carry their number.
TEST(Roofline, LabelsOnlyTheEndsOfManyKernels) {
  nlohmann::json many = nlohmann::json::array();
  for (int i = 1; i <= 40; ++i)
    many.push_back(kernel_of("kernel " + std::to_string(i), 100, 100 + i));
  const std::string html = roofline_html({report_of("matmul", many)});
  const auto label = [](int number) { return HasSubstr(">" + std::to_string(number) + "</text>"); };
  for (const int number : {2, 8, 33, 39}) EXPECT_THAT(html, label(number));
  for (const int number : {9, 20, 32}) EXPECT_THAT(html, Not(label(number)));
  for (int i = 1; i <= 40; ++i) {
    const std::string number = std::to_string(i);
    EXPECT_THAT(html, HasSubstr("<title>" + number + ". kernel " + number + ", "));
  }
}

TEST(Roofline, RoofsAreTheHighestMeasuredAndSharesOfTheOwnReport) {
  nlohmann::json slower = report_of("slower", {kernel_of("a", 100, 50)});
  slower["machine"]["fma_gflops"] = 100.0;
  const std::string html = roofline_html({slower, report_of("faster", {kernel_of("b", 100, 50)})});
  EXPECT_THAT(html, HasSubstr("Least of 200 GFLOP/s"));
  EXPECT_THAT(html, HasSubstr(">50 %</td>"));
  EXPECT_THAT(html, HasSubstr(">25 %</td>"));
}

TEST(Roofline, RefusesReportsThatDoNotFit) {
  const auto message = [](const std::vector<nlohmann::json>& reports) -> std::string {
    try {
      roofline_html(reports);
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  };
  EXPECT_THAT(message({}), HasSubstr("none of 0 reports has kernels"));
  EXPECT_THAT(message({report_of("matmul", {kernel_of("gemv", 0, 1)})}),
              HasSubstr("matmul: gemv has no positive flops_per_byte"));
  nlohmann::json broken = report_of("matmul", {kernel_of("gemv", 1, 1)});
  broken["machine"].erase("read_gb_per_s");
  EXPECT_THAT(message({broken}), HasSubstr("matmul has no positive read_gb_per_s"));
  broken = report_of("matmul", {kernel_of("gemv", 1, 1)});
  broken.erase("bench");
  EXPECT_THAT(message({broken}), HasSubstr("a report has no bench"));
}

}  // namespace
}  // namespace mneme
