// Every case of papers/40's golden file: needle search, insertion, recall, scores from given
// weights, scores and logits of a tiny model that is fed the needle, aggregation, and the three
// ways of masking.
#include <gtest/gtest.h>

#include "mneme/interpret/retrieval_heads.h"
#include "mneme/models/head_edits.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::GoldenCase;
using testing::GoldenFile;

std::vector<int32_t> ids(const GoldenCase& golden, const std::string& part) {
  const std::vector<int64_t> wide = golden.integers(part);
  return {wide.begin(), wide.end()};
}

TokenSpan span_of(const std::vector<int64_t>& ends) { return {ends.at(0), ends.at(1)}; }

std::vector<int64_t> flat(const std::vector<HeadId>& heads) {
  std::vector<int64_t> numbers;
  for (const HeadId& head : heads) numbers.insert(numbers.end(), {head.layer, head.head});
  return numbers;
}

std::vector<HeadId> heads_of(const std::vector<int64_t>& numbers) {
  std::vector<HeadId> heads;
  for (size_t i = 0; i + 1 < numbers.size(); i += 2) heads.push_back({numbers[i], numbers[i + 1]});
  return heads;
}

void expect_near(std::span<const double> got, const std::vector<double>& want, double tolerance,
                 const std::string& where) {
  ASSERT_EQ(got.size(), want.size()) << where;
  for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], tolerance) << where << i;
}

class GoldenRetrieval : public ::testing::Test {
 protected:
  void SetUp() override {
    file = GoldenFile::open("40-retrieval-heads");
    if (!file) GTEST_SKIP() << "40-retrieval-heads.safetensors";
  }
  // Runs `check` on every case that has this part; fails where none has.
  template <typename Check>
  void each(const std::string& part, Check check) {
    int checked = 0;
    for (const GoldenCase& golden : file->cases()) {
      if (!golden.has(part)) continue;
      ++checked;
      SCOPED_TRACE(golden.name());
      check(golden);
    }
    EXPECT_GT(checked, 0);
  }

  std::unique_ptr<GoldenFile> file;
};

TEST_F(GoldenRetrieval, NeedleSpans) {
  each("out.span", [](const GoldenCase& golden) {
    EXPECT_EQ(find_needle(ids(golden, "in.prompt"), ids(golden, "in.needle")),
              span_of(golden.integers("out.span")));
  });
}

TEST_F(GoldenRetrieval, Insertions) {
  each("out.position_and_length", [](const GoldenCase& golden) {
    const auto periods = golden.config().at("period_ids").get<std::vector<int32_t>>();
    const auto needle_tokens = golden.config().at("needle_len").get<int64_t>();
    const std::vector<int64_t> asked = golden.integers("in.q");
    const std::vector<int64_t> want = golden.integers("out.position_and_length");
    for (size_t i = 0; i * 3 < asked.size(); ++i) {
      const Insertion got =
          plan_insertion(ids(golden, "in.context"), needle_tokens, asked[i * 3], asked[i * 3 + 1],
                         static_cast<double>(asked[i * 3 + 2]), periods);
      EXPECT_EQ(got.at, want[i * 2]) << i;
      EXPECT_EQ(got.length, want[i * 2 + 1]) << i;
    }
  });
}

TEST_F(GoldenRetrieval, Recall) {
  each("in.output", [](const GoldenCase& golden) {
    EXPECT_NEAR(unigram_recall(ids(golden, "in.output"), ids(golden, "in.needle")),
                golden.doubles("out.recall").at(0), golden.abs_tolerance());
  });
}

TEST_F(GoldenRetrieval, ScoresFromGivenWeights) {
  each("in.attn", [](const GoldenCase& golden) {
    const auto layers = golden.config().at("layers").get<int64_t>();
    const auto heads = golden.config().at("heads").get<int64_t>();
    RetrievalScore score(layers, heads, ids(golden, "in.prompt"),
                         span_of(golden.integers("in.span")),
                         golden.config().at("topk").get<int64_t>());
    const std::vector<float> weights = golden.floats("in.attn");
    const std::vector<int64_t> lengths = golden.integers("in.lengths");
    const std::vector<int32_t> produced = ids(golden, "in.output_tokens");
    const std::vector<int64_t> hits = golden.integers("out.hit");
    const auto stride = static_cast<size_t>(golden.shape("in.attn").back());
    size_t row = 0;
    for (size_t step = 0; step < produced.size(); ++step) {
      const size_t first = row;
      for (int64_t i = 0; i < layers * heads; ++i, ++row) {
        score.look({i / heads, i % heads},
                   std::span(weights).subspan(row * stride, static_cast<size_t>(lengths[step])),
                   [](int64_t at) { return at; });
      }
      score.produced(produced[step]);
      for (int64_t i = 0; i < layers * heads; ++i)
        EXPECT_EQ(score.hit({i / heads, i % heads}), hits[first + static_cast<size_t>(i)] != 0)
            << "step " << step << " head " << i;
    }
    expect_near(score.score().values(), golden.doubles("out.score"), golden.abs_tolerance(),
                "score ");
  });
}

TEST_F(GoldenRetrieval, ATinyModelThatIsFedTheNeedle) {
  ThreadPool pool(2);
  each("out.argmax", [&](const GoldenCase& golden) {
    const auto model = testing::golden_llama(golden);
    model->use_float_products();
    NeedlePrompt prompt{.tokens = ids(golden, "in.prompt"),
                        .span = span_of(golden.integers("in.span"))};
    const std::vector<int32_t> forced = ids(golden, "in.output_tokens");
    prompt.needle = forced;
    const std::vector<int64_t> strongest = golden.integers("out.argmax");
    const std::vector<int64_t> hits = golden.integers("out.hit");
    std::vector<float> logits;
    size_t at = 0;
    const RetrievalRun run = run_retrieval(
        *model, pool, prompt, {}, forced,
        [&](int64_t step, std::span<const float> row, const RetrievalScore& score) {
          logits.insert(logits.end(), row.begin(), row.end());
          for (int64_t i = 0; i < std::ssize(score.score().values()); ++i, ++at) {
            EXPECT_EQ(score.strongest(score.score().id(i)), strongest[at]) << step << " " << i;
            EXPECT_EQ(score.hit(score.score().id(i)), hits[at] != 0) << step << " " << i;
          }
        });
    EXPECT_EQ(run.output, forced);
    EXPECT_TRUE(run.accepted);
    testing::expect_close(logits, golden.floats("out.logits_last"), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name());
    expect_near(run.score.values(), golden.doubles("out.score"), 1e-12, "score ");
  });
}

TEST_F(GoldenRetrieval, Aggregation) {
  each("out.used", [](const GoldenCase& golden) {
    const std::vector<double> recall = golden.doubles("in.recall");  // percent
    const std::vector<double> scores = golden.doubles("in.scores");
    const std::vector<int64_t>& shape = golden.shape("in.scores");
    const std::vector<int64_t> used = golden.integers("out.used");
    const auto least = golden.config().at("min_recall").get<double>();
    HeadScores accepted;
    for (size_t run = 0; run < recall.size(); ++run) {
      const bool counts = recall[run] > least;
      EXPECT_EQ(counts, used[run] != 0) << run;
      if (!counts) continue;
      HeadTable table(shape[1], shape[2]);
      std::copy_n(scores.begin() + static_cast<int64_t>(run) * shape[1] * shape[2],
                  table.values().size(), table.values().begin());
      accepted.add(table);
    }
    const HeadTable mean = accepted.mean(shape[1], shape[2]);
    expect_near(mean.values(), golden.doubles("out.mean"), golden.abs_tolerance(), "mean ");
    EXPECT_EQ(flat(mean.ranking()), golden.integers("out.order"));
    const std::vector<HeadId> heads =
        heads_at_least(mean, golden.config().at("threshold").get<double>());
    const auto above = std::ranges::count_if(golden.doubles("out.mean"), [&](double value) {
      return value >= golden.config().at("threshold").get<double>();
    });
    EXPECT_EQ(std::ssize(heads), above);
  });
}

// The model is that of another case, named at the end of config.model.
TEST_F(GoldenRetrieval, Masks) {
  ThreadPool pool(2);
  each("out.uniform_decode", [&](const GoldenCase& golden) {
    const auto said = golden.config().at("model").get<std::string>();
    const std::string owner = said.substr(said.rfind(' ') + 1);
    const auto of = std::ranges::find(file->cases(), owner, &GoldenCase::name);
    ASSERT_NE(of, file->cases().end()) << owner;
    const auto model = testing::golden_llama(*of);
    model->use_float_products();
    const std::vector<int32_t> tokens = ids(golden, "in.tokens");
    const std::vector<HeadId> heads = heads_of(golden.integers("in.heads"));
    const int64_t prefill = golden.integers("in.prefill_len").at(0);
    const auto logits_with = [&](HeadEdits& edits) {
      const ScopedHeadHooks hooks(*model, &edits);
      RetrievalScore score(model->config().layers, model->config().q_heads, tokens, {});
      Session session(*model, pool, observed_memory(model->memory_shape(), score));
      std::vector<float> rows;
      const std::span<const int32_t> all = tokens;
      session.append(all.first(static_cast<size_t>(prefill)));
      session.append_visiting(all.subspan(static_cast<size_t>(prefill)), 1,
                              [&](int64_t, std::span<const float> row) {
                                rows.insert(rows.end(), row.begin(), row.end());
                              });
      return rows;
    };
    HeadEdits edits(model->config());
    const auto expect = [&](const std::string& part) {
      testing::expect_close(logits_with(edits), golden.floats(part), golden.abs_tolerance(),
                            golden.rel_tolerance(), golden.name() + "/" + part);
      edits.clear();
    };
    edits.make_uniform(heads, prefill);
    expect("out.uniform_decode");
    edits.make_uniform(heads);
    expect("out.uniform_all");
    edits.prune(heads);
    expect("out.zero_all");

    HeadTable score(model->config().layers, model->config().q_heads);
    std::ranges::copy(of->doubles("out.score"), score.values().begin());
    EXPECT_EQ(flat(score.ranking()), golden.integers("out.order"));
  });
}

}  // namespace
}  // namespace mneme
