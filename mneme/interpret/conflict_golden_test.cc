// Every case of papers/34's golden file: patched logits of every head, direct and total, what they
// say about each head, the ranking, and the logits after pruning either side.
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/interpret/conflict_heads.h"
#include "mneme/models/head_edits.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::GoldenCase;

std::vector<int32_t> row_of(const GoldenCase& golden, const std::string& part, size_t row) {
  const std::vector<int64_t> all = golden.integers(part);
  const auto width = static_cast<int64_t>(golden.shape(part).back());
  const auto first = all.begin() + static_cast<int64_t>(row) * width;
  return {first, first + width};
}

std::vector<int64_t> flat(const std::vector<HeadId>& heads) {
  std::vector<int64_t> numbers;
  for (const HeadId& head : heads) numbers.insert(numbers.end(), {head.layer, head.head});
  return numbers;
}

std::vector<float> joined(const std::vector<HeadTable>& tables) {
  std::vector<float> values;
  for (const HeadTable& table : tables)
    values.insert(values.end(), table.values().begin(), table.values().end());
  return values;
}

void append(std::vector<float>& to, std::span<const float> values) {
  to.insert(to.end(), values.begin(), values.end());
}

TEST(GoldenConflict, EveryCase) {
  const auto file = testing::GoldenFile::open("34-ph3");
  if (!file) GTEST_SKIP() << "34-ph3.safetensors";
  ThreadPool pool(2);
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (!golden.has("in.clean") || !golden.has("out.patched_logits")) continue;
    ++checked;
    SCOPED_TRACE(golden.name());
    const auto model = testing::golden_llama(golden);
    model->use_float_products();
    std::vector<ConflictExample> examples;
    for (size_t i = 0; i < static_cast<size_t>(golden.shape("in.clean")[0]); ++i) {
      examples.push_back(
          {.clean = row_of(golden, "in.clean", i),
           .corrupt = row_of(golden, "in.corrupt", i),
           .memory_answer = static_cast<int32_t>(golden.integers("in.answer_memory").at(i)),
           .context_answer = static_cast<int32_t>(golden.integers("in.answer_context").at(i))});
    }
    const auto expect = [&](const std::vector<float>& got, const std::string& part) {
      testing::expect_close(got, golden.floats(part), golden.abs_tolerance(),
                            golden.rel_tolerance(), golden.name() + "/" + part);
    };

    std::vector<float> clean_logits, corrupt_logits, direct, total;
    for (const ConflictExample& example : examples) {
      const LastPosition clean = record_last_position(*model, pool, example.clean);
      const LastPosition corrupt = record_last_position(*model, pool, example.corrupt);
      append(clean_logits, clean.logits);
      append(corrupt_logits, corrupt.logits);
      patch_direct_paths(
          *model, pool, example.clean.back(), std::ssize(example.clean) - 1, clean, corrupt,
          [&](const HeadId&, std::span<const float> logits) { append(direct, logits); });
      patch_total_effects(
          *model, pool, example.clean, corrupt,
          [&](const HeadId&, std::span<const float> logits) { append(total, logits); });
    }
    expect(clean_logits, "out.clean_logits");
    expect(corrupt_logits, "out.corrupt_logits");
    expect(direct, "out.patched_logits");
    expect(total, "out.total_effect_logits");

    const ConflictRanking ranking = rank_conflict_heads(*model, pool, examples);
    expect(joined({ranking.importance}), "out.importance");
    expect(joined(ranking.memory_drops), "out.drop_memory_prob");
    expect(joined(ranking.context_drops), "out.drop_context_prob");
    EXPECT_EQ(flat(ranking.importance.ranking()), golden.integers("out.order"));

    const ConflictSelection selection{.count = golden.config().at("k").get<int64_t>()};
    for (const auto& [side, name] : {std::pair(ConflictSide::kMemory, std::string("memory")),
                                     std::pair(ConflictSide::kContext, std::string("context"))}) {
      const std::vector<HeadId> heads = conflict_heads(ranking, side, selection);
      EXPECT_EQ(flat(heads), golden.integers("out." + name + "_heads"));
      HeadEdits edits(model->config());
      edits.prune(heads);
      const ScopedHeadHooks hooks(*model, &edits);
      std::vector<float> pruned;
      for (const ConflictExample& example : examples) {
        Session session(*model, pool,
                        MemoryRegistry::builtin().build("full(dtype=f32)", model->memory_shape()));
        session.append(example.clean);
        append(pruned, session.logits());
      }
      expect(pruned, "out.pruned_" + name + "_logits");
    }
  }
  EXPECT_GT(checked, 0);
}

}  // namespace
}  // namespace mneme
