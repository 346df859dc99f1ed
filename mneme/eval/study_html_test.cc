#include "mneme/eval/study_html.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <regex>

#include "mneme/eval/html_testing.h"
#include "mneme/eval/tokenizer_testing.h"

namespace mneme {
namespace {

using testing::expect_well_formed_page;
using ::testing::HasSubstr;
using ::testing::Not;

const ReportInfo kInfo{.model = "Tiny <model>",
                       .file = "m.gguf",
                       .machine = "AMD",
                       .threads = 2,
                       .command = "mneme compare --memory 'cake(budget=$b)'"};

StudyResult recall_result(double log_prob, bool exact, int64_t bytes, double rate) {
  return {.recall = RecallScore{.length = 1024,
                                .depth = 0.5,
                                .prompt_tokens = 1024,
                                .answer = "12345",
                                .greedy = exact ? " 12345" : " <99",
                                .log_probs = {log_prob},
                                .exact = exact,
                                .seconds = 1,
                                .decode_rate = rate,
                                .resident_bytes = bytes,
                                .logical_bytes = 80 << 20,
                                .peak_bytes = bytes}};
}

Study example() {
  Study study{.tasks = {StudyTask::kNeedle, StudyTask::kPerplexity, StudyTask::kDivergence},
              .memories = expand_sweeps({"full", "cake(budget=$b)"}, {{"b", {"0.1", "0.2"}}}),
              .specs = {"full", "cake1", "cake2"},
              .reference = "full(dtype=f16)",
              .shown = testing::CharacterTokenizer().encode("ab&cd.")};
  const auto needle = [&](size_t memory, StudyResult result) {
    study.cells.push_back({.task = StudyTask::kNeedle,
                           .memory = memory,
                           .length = 1024,
                           .depth = 0.5,
                           .shown = true,
                           .result = std::move(result)});
  };
  needle(0, recall_result(-0.25, true, 80 << 20, 40));
  needle(1, recall_result(-2.5, false, 8 << 20, 60));
  needle(2, recall_result(-1.5, false, 16 << 20, 50));
  study.cells[1].result->kept = KeptTokens{.layers = 2,
                                           .heads = 1,
                                           .tokens = 6,
                                           .bins = 3,
                                           .of_bin = {2, 2, 1, 0, 0, 2},
                                           .of_token = {1, 1, 1, 1, 1, 2}};
  for (const StudyTask task : {StudyTask::kPerplexity, StudyTask::kDivergence}) {
    for (size_t memory = 0; memory < 3; ++memory) {
      const double worse = static_cast<double>(memory) / 10;
      study.cells.push_back(
          {.task = task,
           .memory = memory,
           .length = 2048,
           .result = StudyResult{
               .text = ContinuationScore{.prompt_tokens = 1792,
                                         .tokens = 256,
                                         .mean_nll = 2 + worse,
                                         .standard_error = 0.1,
                                         .divergence = KlSummary{.mean = worse, .p99 = 2 * worse},
                                         .prompt_seconds = 2,
                                         .decode_rate = 30,
                                         .resident_bytes = 20 << 20,
                                         .logical_bytes = 80 << 20,
                                         .peak_bytes = 30 << 20}}});
    }
  }
  return study;
}

std::string page(const Study& study) {
  return study_html(study, testing::CharacterTokenizer(), kInfo);
}

TEST(StudyHtml, StandsAloneAndIsWellFormed) {
  const std::string html = page(example());
  expect_well_formed_page(html);
  EXPECT_THAT(html, HasSubstr("name=\"viewport\" content=\"width=device-width,initial-scale=1\""));
  for (const char* outside :
       {"http:", "https:", "src=\"", "<link", "@import", "url(", "<script", "<img"})
    EXPECT_THAT(html, Not(HasSubstr(outside)));
  EXPECT_THAT(html, HasSubstr("Tiny &lt;model&gt;"));
  EXPECT_THAT(html, HasSubstr("answered &lt;99"));
  EXPECT_THAT(html, Not(HasSubstr("Interrupted")));
  expect_well_formed_page(page({}));
}

TEST(StudyHtml, HasTwoFrontsATaskWithNamesOfTheirOwn) {
  const std::string html = page(example());
  for (const char* id : {"needle-bytes", "needle-speed", "perplexity-bytes", "perplexity-speed",
                         "kl-bytes", "kl-speed"})
    EXPECT_THAT(html, HasSubstr(std::string("<title id=\"") + id + "-t\">"));
  // Of the needle every memory is on both fronts: cheaper ones are worse.
  const std::regex front(R"re(class="front" d="M[-.0-9]+ [-.0-9]+(H[-.0-9]+V[-.0-9]+){2}")re");
  EXPECT_EQ(
      std::distance(std::sregex_iterator(html.begin(), html.end(), front), std::sregex_iterator()),
      2);
  // Memories of one sweep share a marker and are labelled by their value.
  EXPECT_THAT(html, HasSubstr("class=\"name\">0.1</text>"));
  EXPECT_THAT(html, HasSubstr("<span class=\"spec\">cake(budget=$b)</span></li>"));
}

TEST(StudyHtml, ShowsTheFigures) {
  const std::string html = page(example());
  for (const char* figure : {"-0.250", "100.0 %", "80.0 MiB", "10.0 %", "7.389 ± 0.74", "0.1",
                             "cake(budget=0.2)", "AMD, 2 threads"})
    EXPECT_THAT(html, HasSubstr(figure));
}

TEST(StudyHtml, ShowsWhatWasKept) {
  const std::string html = page(example());
  EXPECT_THAT(html, HasSubstr("Tokens that cake(budget=0.1) kept"));
  EXPECT_THAT(html, HasSubstr("Holds 58.3 % of all rows"));
  EXPECT_THAT(html, HasSubstr("<span class=\"k4\">ab&amp;cd</span>"));
  Study none = example();
  none.cells[1].result->kept.reset();
  EXPECT_THAT(page(none), Not(HasSubstr("What was kept")));
}

TEST(StudyHtml, SaysWhatIsMissing) {
  Study study = example();
  study.cells[1].result.reset();
  study.cells[2].result = StudyResult{.error = "<too long>"};
  const std::string html = page(study);
  expect_well_formed_page(html);
  EXPECT_THAT(html, HasSubstr("Interrupted: 1 of 9 parts are missing"));
  EXPECT_THAT(html, HasSubstr("&lt;too long&gt;"));
}

}  // namespace
}  // namespace mneme
