#include "mneme/eval/report_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "mneme/eval/html_testing.h"

namespace mneme {
namespace {

using testing::expect_well_formed_page;
using ::testing::HasSubstr;
using ::testing::Not;

ComparisonRow row_of(std::string label, int64_t resident) {
  ComparisonRow row{.label = label, .spec = std::move(label)};
  row.text = "The pass key is <script>alert(1)</script> & more";
  row.tokens = {1, 2, 3};
  row.prompt_tokens = 3412;
  row.prefill_rate = 210.5;
  row.decode_rate = 41.25;
  row.resident_bytes = resident;
  row.peak_bytes = resident + (1 << 20);
  row.logical_bytes = 80 << 20;
  row.speed = {{.context = 1000, .prefill_rate = 300, .decode_rate = 50},
               {.context = 3000, .prefill_rate = 200, .decode_rate = 42}};
  return row;
}

Comparison prompt_comparison() {
  Comparison comparison{.reference = "full(dtype=f16)"};
  comparison.rows = {row_of("full(dtype=f16)", 80 << 20), row_of("q4", 23 << 20)};
  for (ComparisonRow& row : comparison.rows) {
    row.prompt_quality = PromptQuality{.divergence = {.tokens = 256},
                                       .answer_tokens = 3,
                                       .answer_log_prob = -0.125,
                                       .answer_agreement = 1,
                                       .same_tokens = 3};
  }
  comparison.rows[1].prompt_quality->divergence.mean = 0.0123;
  comparison.rows[1].prompt_quality->divergence.top1_agreement = 0.905;
  return comparison;
}

const ReportInfo kInfo{.model = "SmolLM2 \"135M\"",
                       .file = "model.gguf",
                       .input = "prompt <of> a file",
                       .excerpt = "What is the key? </p><img src=x onerror=alert(1)>",
                       .machine = "AMD EPYC",
                       .threads = 2,
                       .date = "2026-11-24 07:30 UTC",
                       .command = "mneme compare --prompt '<b>'"};

TEST(ReportHtml, StandsAloneAndIsReadableOnAPhone) {
  const std::string html = report_html(prompt_comparison(), kInfo);
  expect_well_formed_page(html);
  EXPECT_TRUE(html.starts_with("<!DOCTYPE html>"));
  EXPECT_THAT(html, HasSubstr("<html lang=\"en\">"));
  EXPECT_THAT(html, HasSubstr("name=\"viewport\" content=\"width=device-width,initial-scale=1\""));
  EXPECT_THAT(html, HasSubstr("prefers-color-scheme:dark"));
  for (const char* outside :
       {"http:", "https:", "src=\"", "<link", "@import", "url(", "<script", "<img"})
    EXPECT_THAT(html, Not(HasSubstr(outside)));
}

TEST(ReportHtml, TextFromOutsideStaysText) {
  const std::string html = report_html(prompt_comparison(), kInfo);
  EXPECT_THAT(html, HasSubstr("&lt;script&gt;alert(1)&lt;/script&gt; &amp; more"));
  EXPECT_THAT(html, HasSubstr("&lt;/p&gt;&lt;img src=x onerror=alert(1)&gt;"));
  EXPECT_THAT(html, HasSubstr("mneme compare --prompt &#39;&lt;b&gt;&#39;"));
  EXPECT_THAT(html, HasSubstr("prompt &lt;of&gt; a file"));
  Comparison comparison = prompt_comparison();
  comparison.rows[1].label = "<i>\"q4\"";
  comparison.rows[1].error = "<u>no</u>";
  const std::string odd = report_html(comparison, kInfo);
  EXPECT_THAT(odd, Not(HasSubstr("<i>")));
  EXPECT_THAT(odd, Not(HasSubstr("<u>")));
}

TEST(ReportHtml, ShowsTheFiguresAndHowTheyWereMade) {
  const std::string html = report_html(prompt_comparison(), kInfo);
  for (const char* figure :
       {"23.0 MiB", "24.0 MiB", "28.7 %", "210", "41.2", "0.0123", "90.5 %", "-0.125", "3,412",
        "AMD EPYC, 2 threads", "2026-11-24 07:30 UTC", "model.gguf", "this is the reference",
        "the same as under the reference"})
    EXPECT_THAT(html, HasSubstr(figure));
  for (const char* id : {"quality-t", "bytes-t", "decode-t", "prefill-t"})
    EXPECT_THAT(html, HasSubstr(std::string("<title id=\"") + id + "\">"));
}

TEST(ReportHtml, PerplexityHasItsOwnFigures) {
  Comparison text{.task = ComparisonTask::kPerplexity, .reference = "full(dtype=f16)"};
  text.rows = {row_of("q8", 40 << 20)};
  text.rows[0].perplexity_quality = PerplexityQuality{
      .tokens = 8191, .perplexity = 19.5, .perplexity_error = 0.25, .ratio = 1.0042};
  const std::string perplexity = report_html(text, kInfo);
  expect_well_formed_page(perplexity);
  EXPECT_THAT(perplexity, HasSubstr("19.500 ± 0.25"));
  EXPECT_THAT(perplexity, HasSubstr("+0.42 %"));
  EXPECT_THAT(perplexity, Not(HasSubstr("Answers side by side")));
}

TEST(ReportHtml, FailuresAndInterruptsAreSaid) {
  Comparison comparison = prompt_comparison();
  comparison.interrupted = true;
  comparison.reference_error = "the text is too long";
  comparison.rows.push_back({.label = "full", .spec = "full", .error = "does not fit"});
  const std::string html = report_html(comparison, kInfo);
  expect_well_formed_page(html);
  EXPECT_THAT(html, HasSubstr("Interrupted"));
  EXPECT_THAT(html, HasSubstr("the text is too long"));
  EXPECT_THAT(html, HasSubstr("does not fit"));
  expect_well_formed_page(report_html({}, kInfo));
}

TEST(ReportInfo, TheMachineAndTheDateAreTold) {
  EXPECT_FALSE(processor_name().empty());
  EXPECT_TRUE(std::regex_match(date_now(), std::regex(R"(\d{4}-\d\d-\d\d \d\d:\d\d UTC)")));
}

}  // namespace
}  // namespace mneme
