// Golden stream_* and train_model of papers/39: the official small model, its attention the landmark
// memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>

#include "mneme/models/landmark_model_testing.h"
#include "mneme/runtime/landmark_session.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

// In the lowest layer all older landmarks score alike (one token, one key, one place), and which of
// them the reference takes is what its sort leaves in front: torch.topk on the CPU puts the k-th in
// its place by std::nth_element, over a ring whose oldest block lies at `oldest`. Ours are the lowest;
// to compare everything else, its choice.
void choose_like_reference(std::span<const float> scores, int64_t oldest,
                           std::span<int32_t> selected) {
  const auto blocks = std::ssize(scores);
  std::vector<std::pair<float, int32_t>> queue;
  for (int64_t slot = 0; slot < blocks; ++slot) {
    const int64_t age = (slot - oldest + blocks) % blocks;
    queue.emplace_back(scores[static_cast<size_t>(age)], static_cast<int32_t>(age));
  }
  const auto last = queue.begin() + std::ssize(selected) - 1;
  std::nth_element(queue.begin(), last, queue.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  for (size_t i = 0; i < selected.size(); ++i) selected[i] = queue[i].second;
  std::ranges::sort(selected);
}

LandmarkOptions options_of(const testing::GoldenCase& golden) {
  const auto& config = golden.config();
  LandmarkOptions options{.block = config.at("block_tokens").get<int64_t>() + 1,
                          .chunk = 1 << 16,
                          .landmark_token = config.at("landmark_id")};
  if (!config.contains("cache_topk")) return options;
  const std::map<std::string, LandmarkSelection> methods = {
      {"per_token_and_head", LandmarkSelection::kPerTokenAndHead},
      {"max_over_tokens", LandmarkSelection::kMaxOverTokens},
      {"max_over_heads", LandmarkSelection::kMaxOverHeads}};
  options.top = config.at("cache_topk");
  options.blocks = config.at("mem_cache_size");
  options.selection = methods.at(config.at("cache_selection_method"));
  return options;
}

std::vector<int32_t> row_of(const std::vector<int64_t>& tokens, int64_t row, int64_t columns) {
  const auto first = tokens.begin() + row * columns;
  return {first, first + columns};
}

TEST(GoldenLandmarkSession, StreamsLikeTheOfficialModel) {
  const auto file = testing::GoldenFile::open("39-landmark-attention");
  if (file == nullptr) GTEST_SKIP();
  int cases = 0;
  ThreadPool pool(2);
  for (const testing::GoldenCase& golden : file->cases()) {
    if (golden.kind() != "stream") continue;
    ++cases;
    SCOPED_TRACE(golden.name());
    testing::LandmarkModel model(golden);
    LandmarkOptions options = options_of(golden);
    int64_t oldest = 0;
    options.other_rule = [&](std::span<const float> scores, std::span<int32_t> selected) {
      choose_like_reference(scores, oldest, selected);
    };
    const auto tokens = golden.integers("in.tokens");
    const int64_t batch = golden.shape("in.tokens")[0], columns = golden.shape("in.tokens")[1];
    const int64_t chunk = golden.config().at("chunk");
    std::vector<float> logits;
    for (int64_t row = 0; row < batch; ++row) {
      LandmarkSession session(
          [&](std::span<const int32_t> step, LandmarkMemory& memory) {
            return model.forward(step, memory, pool);
          },
          std::make_unique<LandmarkMemory>("golden", model.memory_shape(), options));
      const std::vector<int32_t> ids = row_of(tokens, row, columns);
      std::vector<int64_t> starts;
      for (int64_t at = 0; at < columns; at += chunk) {
        // The reference counts positions from its oldest slot on.
        const int64_t length = session.memory().length(), stored = length / options.block;
        oldest = stored > options.blocks ? stored % options.blocks : 0;
        starts.push_back(std::min(std::min(stored, options.blocks), options.top + 1) *
                             options.block +
                         length % options.block);
        const auto part = std::span(ids).subspan(
            static_cast<size_t>(at), static_cast<size_t>(std::min(chunk, columns - at)));
        const std::vector<float> got = session.append(part);
        logits.insert(logits.end(), got.begin(), got.end());
      }
      EXPECT_EQ(starts, golden.integers("out.start_index"));
      EXPECT_EQ(session.tokens(), ids);
    }
    testing::expect_close(logits, golden.floats("out.logits"), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name());
  }
  EXPECT_GT(cases, 0);
}

TEST(GoldenLandmarkSession, OnePassIsTheTrainingForm) {
  const auto file = testing::GoldenFile::open("39-landmark-attention");
  if (file == nullptr) GTEST_SKIP();
  int cases = 0;
  ThreadPool pool(2);
  for (const testing::GoldenCase& golden : file->cases()) {
    if (golden.kind() != "train") continue;
    ++cases;
    testing::LandmarkModel model(golden);
    const auto ids = golden.integers("in.idx"), targets = golden.integers("in.targets");
    const int64_t batch = golden.shape("in.idx")[0], columns = golden.shape("in.idx")[1];
    std::vector<float> logits;
    double loss = 0;
    for (int64_t row = 0; row < batch; ++row) {
      LandmarkMemory memory("golden", model.memory_shape(), options_of(golden));
      const auto rows = model.forward(row_of(ids, row, columns), memory, pool);
      logits.insert(logits.end(), rows.begin(), rows.end());
    }
    const auto width = static_cast<size_t>(model.vocabulary());
    for (size_t i = 0; i < targets.size(); ++i) {
      const float* const row = logits.data() + i * width;
      loss += log_sum_exp(row, model.vocabulary()) - row[targets[i]];
    }
    testing::expect_close(logits, golden.floats("out.logits"), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/out.logits");
    testing::expect_close({static_cast<float>(loss / static_cast<double>(targets.size()))},
                          golden.floats("out.loss"), golden.abs_tolerance(), golden.rel_tolerance(),
                          golden.name() + "/out.loss");
  }
  EXPECT_GT(cases, 0);
}

}  // namespace
}  // namespace mneme
