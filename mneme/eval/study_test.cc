#include "mneme/eval/study.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/needle.h"
#include "mneme/eval/study_json.h"
#include "mneme/eval/tokenizer_testing.h"
#include "mneme/models/tiny_model_testing.h"

namespace mneme {
namespace {

using testing::CharacterTokenizer;
using ::testing::HasSubstr;

class StudyTest : public ::testing::Test {
 protected:
  StudyOptions options(std::vector<StudyTask> tasks, std::vector<std::string> specs) {
    StudyOptions made{.tasks = std::move(tasks),
                      .memories = expand_sweeps(specs, {}),
                      .recall = {.lengths = {560, 600}, .depths = {0, 1}},
                      .text = testing::TinyModel().tokens(150),
                      .scored = 20};
    return made;
  }
  Study run(const StudyOptions& options, const StudyHooks& hooks = {}) {
    return run_study(*model_, pool_, tokenizer_, options, hooks);
  }

  std::unique_ptr<DecoderModel> model_ = load_llama_state_dict(
      R"({"vocab_size": 50, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 32, "max_position_embeddings": 1024, "rope_theta": 10000.0, "rms_norm_eps": 1e-5})",
      testing::tiny_tensors(7));
  ThreadPool pool_{2};
  CharacterTokenizer tokenizer_;
};

TEST_F(StudyTest, EveryMemoryWithEveryCaseOfEveryTask) {
  const auto tasks = std::vector<StudyTask>(std::begin(kStudyTasks), std::end(kStudyTasks));
  const StudyOptions all = options(tasks, {"full", "snapkv(budget=0.3)"});
  const Study study = run(all);
  EXPECT_FALSE(study.interrupted);
  EXPECT_EQ(study.reference, "full(dtype=f16)");
  std::map<StudyTask, int64_t> count;
  std::set<std::string> keys;
  for (const StudyCell& cell : study.cells) {
    ++count[cell.task];
    keys.insert(cell.key);
    ASSERT_TRUE(cell.result.has_value());
    EXPECT_EQ(cell.result->error, "");
    EXPECT_EQ(cell.result->text.has_value(), is_text_task(cell.task));
    EXPECT_EQ(cell.result->recall.has_value(), !is_text_task(cell.task));
    EXPECT_FALSE(cell.result->kept.has_value());
    EXPECT_GT(cell.result->seconds, 0);
  }
  EXPECT_EQ(keys.size(), study.cells.size());
  EXPECT_EQ(count[StudyTask::kNeedle], 8);
  EXPECT_EQ(count[StudyTask::kMultiKey], 8);
  EXPECT_EQ(count[StudyTask::kVariableTracking], 8);
  EXPECT_EQ(count[StudyTask::kAggregation], 4);
  EXPECT_EQ(count[StudyTask::kPerplexity], 2);
  EXPECT_EQ(count[StudyTask::kDivergence], 2);

  // One cell on its own.
  const StudyCell& cell = study.cells[3];  // needle, length 560, depth 1, second memory
  EXPECT_EQ(cell.memory, 1u);
  const RecallCase one = needle_cases(tokenizer_, all.recall)[1];
  const RecallScore alone = score_recall(
      *model_, pool_, tokenizer_,
      [&] { return MemoryRegistry::builtin().build("snapkv(budget=0.3)", model_->memory_shape()); },
      one);
  EXPECT_EQ(cell.result->recall->log_probs, alone.log_probs);
  EXPECT_EQ(cell.result->recall->resident_bytes, alone.resident_bytes);
}

TEST_F(StudyTest, WhatIsStoredIsNotRunAgain) {
  const StudyOptions all =
      options({StudyTask::kNeedle, StudyTask::kDivergence}, {"full", "q4(group=32)"});
  std::map<std::string, std::string> stored;
  std::vector<std::string> run_keys;
  StudyHooks hooks{.load = [&](const std::string& key) -> std::optional<StudyResult> {
                     if (!stored.contains(key)) return std::nullopt;
                     return parse_study_result(stored[key]);
                   },
                   .save =
                       [&](const StudyCell& cell) {
                         run_keys.push_back(cell.key);
                         stored[cell.key] = study_result_json(*cell.result);
                       },
                   .progress = [&](const StudyStep& step) { return step.cells_done < 5; }};
  const Study cut = run(all, hooks);
  EXPECT_TRUE(cut.interrupted);
  EXPECT_EQ(run_keys.size(), 5u);
  int64_t first_cells = 0;
  hooks.progress = [&](const StudyStep& step) {
    if (first_cells == 0) first_cells = step.cells;
    EXPECT_LE(step.tokens_done, step.tokens);
    EXPECT_EQ(step.cells, first_cells);
    return true;
  };
  const Study resumed = run(all, hooks);
  EXPECT_FALSE(resumed.interrupted);
  EXPECT_EQ(first_cells, 5);
  EXPECT_EQ(std::set(run_keys.begin(), run_keys.end()).size(), 10u);
  EXPECT_EQ(run_keys.size(), 10u);

  const Study whole = run(all);
  for (size_t i = 0; i < whole.cells.size(); ++i) {
    const StudyCell &a = resumed.cells[i], &b = whole.cells[i];
    EXPECT_EQ(a.stored, i < 5);
    EXPECT_EQ(a.key, b.key);
    if (b.result->recall) {
      EXPECT_EQ(a.result->recall->log_probs, b.result->recall->log_probs);
      EXPECT_EQ(a.result->recall->greedy, b.result->recall->greedy);
    } else {
      EXPECT_EQ(a.result->text->divergence->mean, b.result->text->divergence->mean);
    }
  }
  // Everything is there: nothing is run, and nothing is told.
  hooks.progress = [](const StudyStep&) {
    ADD_FAILURE() << "work was begun";
    return false;
  };
  run(all, hooks);
  EXPECT_EQ(run_keys.size(), 10u);
}

TEST_F(StudyTest, AKeyHoldsEverythingThatDecidesAResult) {
  const auto base = options({StudyTask::kNeedle, StudyTask::kDivergence}, {"full"});
  const auto keys_of = [&](const std::function<void(StudyOptions&)>& change) {
    StudyOptions changed = base;
    change(changed);
    std::vector<std::string> keys;
    const StudyHooks hooks{.progress = [](const StudyStep&) { return false; }};
    for (const StudyCell& cell : run(changed, hooks).cells) keys.push_back(cell.key);
    return std::pair(keys.front(), keys.back());
  };
  const auto [needle, kl] = keys_of([](auto&) {});
  EXPECT_EQ(keys_of([](auto&) {}), std::pair(needle, kl));
  const auto differ = [&](const std::function<void(StudyOptions&)>& change, bool first,
                          bool second) {
    const auto [a, b] = keys_of(change);
    EXPECT_EQ(a != needle, first);
    EXPECT_EQ(b != kl, second);
  };
  differ([](auto& o) { o.memories[0].spec = "q8(group=32)"; }, true, true);
  differ([](auto& o) { o.memories[0].spec = "full(dtype=f16)"; }, false, false);
  differ([](auto& o) { o.recall.seed = 2; }, true, false);
  differ([](auto& o) { o.recall.lengths = {561}; }, true, false);
  differ([](auto& o) { o.text.back() ^= 1; }, false, true);
  differ([](auto& o) { o.scored = 21; }, false, true);
  differ([](auto& o) { o.reference = "full(dtype=f32)"; }, false, true);
  differ([](auto& o) { o.budget_bytes = 1 << 30; }, true, true);
  differ([](auto& o) { o.chunk = 64; }, true, true);
  differ([](auto& o) { o.machine = "another"; }, true, true);
}

TEST_F(StudyTest, KeptTokensAreSeenOnOnePromptOnly) {
  StudyOptions all = options({StudyTask::kNeedle, StudyTask::kAggregation},
                             {"full", "snapkv(budget=0.2)", "sliding(window=64,sink=4)"});
  all.recall.depths = {0, 0.4, 1};
  all.keep_maps = true;
  const Study study = run(all);
  int64_t maps = 0;
  for (const StudyCell& cell : study.cells) {
    EXPECT_EQ(cell.shown,
              cell.task == StudyTask::kNeedle && cell.length == 600 && *cell.depth == 0.4);
    EXPECT_EQ(cell.result->kept.has_value(), cell.shown && cell.memory > 0);
    maps += cell.result->kept.has_value();
  }
  EXPECT_EQ(maps, 2);

  // With a longer prompt to be shown, what is stored serves as before; only that prompt is looked at.
  std::map<std::string, StudyResult> stored;
  for (const StudyCell& cell : study.cells) stored[cell.key] = *cell.result;
  all.recall.lengths = {560, 600, 640};
  int64_t to_do = 0, again = 0;
  const Study longer = run(all, {.load = [&](const std::string& key) -> std::optional<StudyResult> {
                                   if (!stored.contains(key)) return std::nullopt;
                                   return stored[key];
                                 },
                                 .progress =
                                     [&](const StudyStep& step) {
                                       to_do = step.cells;
                                       return true;
                                     }});
  EXPECT_EQ(to_do, 3 * 3 + 3);
  for (const StudyCell& cell : longer.cells) stored[cell.key] = *cell.result;
  for (const StudyCell& cell : run(all, {.load =
                                             [&](const std::string& key) {
                                               return std::optional<StudyResult>(stored[key]);
                                             }})
                                   .cells)
    EXPECT_TRUE(cell.stored);
  all.recall.lengths = {560};
  for (const StudyCell& cell :
       run(all, {.load = [&](const std::string& key) -> std::optional<StudyResult> {
             return stored[key];
           }})
           .cells)
    again += !cell.stored;
  EXPECT_EQ(again, 3);  // the three memories on the prompt that was not shown before
  EXPECT_EQ(study.shown.size(), 600u);
  StudyOptions text = options({StudyTask::kPerplexity}, {"tova(budget=0.2)"});
  text.keep_maps = true;
  const Study read = run(text);
  EXPECT_EQ(read.shown.size(), 130u);
  EXPECT_EQ(read.cells[0].result->kept->tokens, 130);
}

TEST_F(StudyTest, OneMemoryThatCannotLeavesTheOthersAlone) {
  StudyOptions all = options({StudyTask::kNeedle}, {"full", "sliding(window=64,sink=4)"});
  all.recall.lengths = {1100};  // context 1024
  const Study study = run(all);
  for (const StudyCell& cell : study.cells) {
    if (cell.memory == 0) {
      EXPECT_THAT(cell.result->error, HasSubstr("76 tokens longer than the model's context"));
    } else {
      EXPECT_EQ(cell.result->error, "");
    }
  }
}

TEST_F(StudyTest, RefusesBadOptionsBeforeAnyWork) {
  const auto message = [&](const std::function<void(StudyOptions&)>& change) -> std::string {
    StudyOptions changed = options({StudyTask::kNeedle}, {"full"});
    change(changed);
    const StudyHooks hooks{.progress = [](const StudyStep&) {
      ADD_FAILURE() << "work was begun";
      return false;
    }};
    try {
      run(changed, hooks);
    } catch (const Error& error) {
      return error.what();
    }
    return "accepted";
  };
  EXPECT_THAT(message([](auto& o) { o.tasks = {}; }), HasSubstr("at least one task"));
  EXPECT_THAT(message([](auto& o) { o.memories = {}; }), HasSubstr("at least one memory"));
  EXPECT_THAT(message([](auto& o) { o.tasks.push_back(StudyTask::kNeedle); }),
              HasSubstr("the task needle is given twice"));
  EXPECT_THAT(message([](auto& o) { o.memories.push_back({.spec = "full(dtype=f16)"}); }),
              HasSubstr("the memory 'full(dtype=f16)' is given twice"));
  EXPECT_THAT(message([](auto& o) { o.memories[0].spec = "fll"; }), HasSubstr("fll"));
  EXPECT_THAT(message([](auto& o) { o.reference = "fll"; }), HasSubstr("fll"));
  EXPECT_THAT(message([](auto& o) { o.chunk = -1; }), HasSubstr("got -1"));
  EXPECT_THAT(message([](auto& o) { o.budget_bytes = -1; }), HasSubstr("got -1"));
  EXPECT_THAT(message([](auto& o) {
                o.tasks = {StudyTask::kDivergence};
                o.text = {1, 2};
              }),
              HasSubstr("a text of more than 20 tokens"));
  EXPECT_THAT(message([](auto& o) { o.recall.lengths = {10}; }), HasSubstr("got 10"));
}

TEST(StudyTasks, HaveNames) {
  for (const StudyTask task : kStudyTasks) EXPECT_EQ(parse_study_task(task_name(task)), task);
  try {
    parse_study_task("kll");
    FAIL();
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("'kll', expected prompt alone, or some of needle, "
                                        "multikey, vartrack, aggregate, perplexity, kl"));
  }
}

}  // namespace
}  // namespace mneme
