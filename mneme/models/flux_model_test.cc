// Flux Attention on a whole model: what the model hands its routers, and what they decide.
#include <gtest/gtest.h>

#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/flux.h"
#include "mneme/cache/policy/flux_testing.h"
#include "mneme/io/gguf.h"
#include "mneme/models/load_model.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/temporary_folder.h"
#include "tests/support/tiny_gguf.h"

namespace mneme {
namespace {

using testing::TemporaryFolder;
using testing::TinyModel;

constexpr int64_t kDim = 32;

// Keeps all rows and the queries of each layer's last step.
class Recorder final : public CachePolicy {
 public:
  struct Seen {
    std::vector<float> q, first, last;
  };
  Recorder(const MemoryShape& shape, int64_t wanted, std::vector<Seen>* seen)
      : CachePolicy(shape), wanted_(wanted), seen_(seen) {}
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Recorder>(*this); }
  int64_t unrotated_rows(int64_t tokens) const override { return std::min(tokens, wanted_); }
  void enter(const PolicyStep& step, const PolicyRows&) override {
    const int64_t width = shape().q_heads * shape().k_dim;
    const auto copy = [&](const float* rows, int64_t count) {
      return rows == nullptr ? std::vector<float>()
                             : std::vector<float>(rows, rows + count * width);
    };
    const int64_t ends = unrotated_rows(step.tokens);
    seen_->push_back({copy(step.layer.q, step.tokens), copy(step.layer.first_unrotated, ends),
                      copy(step.layer.last_unrotated, ends)});
  }

 private:
  int64_t wanted_;
  std::vector<Seen>* seen_;
};

TEST(FluxModel, HandsOverTheQueriesOfBothEndsBeforeRotation) {
  TinyModel tiny;
  ThreadPool pool(2);
  const MemoryShape& shape = tiny.model().memory_shape();
  const int64_t width = shape.q_heads * kDim;
  std::vector<Recorder::Seen> seen, others;
  // Two sequences of a step, of which the second is shorter than what is wanted, and one that wants
  // nothing.
  PagedMemory first("full", {}, std::make_unique<Recorder>(shape, 4, &seen));
  PagedMemory second("full", {}, std::make_unique<Recorder>(shape, 4, &seen));
  PagedMemory silent("full", {}, std::make_unique<Recorder>(shape, 0, &others));
  const std::vector<int32_t> long_text = tiny.tokens(20), short_text = tiny.tokens(3, 9);
  const SequenceStep steps[] = {{.tokens = long_text, .memory = &first},
                                {.tokens = long_text, .memory = &silent},
                                {.tokens = short_text, .memory = &second}};
  tiny.model().forward(steps, pool);
  ASSERT_EQ(seen.size(), 4u);
  ASSERT_EQ(others.size(), 2u);
  EXPECT_TRUE(others[0].first.empty());
  for (size_t layer = 0; layer < 2; ++layer) {
    for (const auto& [at, tokens] : {std::pair<size_t, int64_t>{0, 20}, {1, 3}}) {
      const Recorder::Seen& got = seen[2 * layer + at];
      const int64_t ends = std::min<int64_t>(tokens, 4);
      ASSERT_EQ(std::ssize(got.first), ends * width);
      for (const auto& [rows, begin] :
           {std::pair{got.first, int64_t{0}}, {got.last, tokens - ends}}) {
        std::vector<float> turned = rows, cosines(static_cast<size_t>(ends * kDim / 2)),
                           sines(cosines);
        rope_table(begin, ends, kDim, 10000, 1, nullptr, cosines.data(), sines.data());
        rope(turned.data(), ends, shape.q_heads, kDim, RopePairs::kHalves, cosines.data(),
             sines.data());
        EXPECT_EQ(turned, std::vector<float>(got.q.begin() + begin * width,
                                             got.q.begin() + (begin + ends) * width));
      }
    }
  }
}

// Whatever the order of a file, routers see dimensions as the official state dict has them.
TEST(FluxModel, HandsOverPairsAsHalves) {
  const std::string bytes = testing::tiny_llama_gguf().build();
  const auto model = load_model(
      GgufFile::parse(reinterpret_cast<const std::byte*>(bytes.data()), std::ssize(bytes), "tiny"));
  ASSERT_EQ(model->config().rope_pairs, RopePairs::kInterleaved);
  std::vector<Recorder::Seen> seen;
  PagedMemory memory("full", {}, std::make_unique<Recorder>(model->memory_shape(), 5, &seen));
  const std::vector<int32_t> tokens = {5, 17, 200, 3, 3};
  const SequenceStep step{.tokens = tokens, .memory = &memory};
  ThreadPool pool(2);
  model->forward({&step, 1}, pool);
  for (const Recorder::Seen& got : seen) {
    std::vector<float> turned(got.first.size()), cosines(5 * kDim / 2), sines(cosines);
    for (size_t i = 0; i < turned.size(); ++i) {
      const size_t within = i % kDim;
      turned[i - within + within % (kDim / 2) * 2 + within / (kDim / 2)] = got.first[i];
    }
    rope_table(0, 5, kDim, model->config().rope_base, 1, nullptr, cosines.data(), sines.data());
    rope(turned.data(), 5, model->config().q_heads, kDim, RopePairs::kInterleaved, cosines.data(),
         sines.data());
    EXPECT_EQ(turned, got.q);
    EXPECT_EQ(got.first, got.last);
  }
}

std::vector<float> logits_of(TinyModel& tiny, const std::string& spec, int64_t chunk,
                             std::vector<Flux::Route>* routes = nullptr) {
  ThreadPool pool(2);
  const auto memory = MemoryRegistry::builtin().build(spec, tiny.model().memory_shape());
  const std::vector<int32_t> tokens = tiny.tokens(130);
  std::vector<float> all;
  for (int64_t first = 0; first < 130; first += chunk) {
    const int64_t count = std::min(chunk, 130 - first);
    const SequenceStep step{
        .tokens = std::span(tokens).subspan(static_cast<size_t>(first), static_cast<size_t>(count)),
        .memory = memory.get(),
        .logits = Logits::kAll,
        .following = 130 - first - count};
    const auto logits = tiny.model().forward({&step, 1}, pool);
    all.insert(all.end(), logits.begin(), logits.end());
  }
  if (routes != nullptr) {
    const auto found =
        dynamic_cast<const Flux&>(dynamic_cast<const PagedMemory&>(*memory).policy()).routes();
    routes->assign(found.begin(), found.end());
  }
  return all;
}

TEST(FluxModel, AllFullIsFullAndChunksAreOneStep) {
  TinyModel tiny;
  const TemporaryFolder folder;
  testing::write_routers(folder / "full", kDim, {1, 1});
  testing::write_routers(folder / "mixed", kDim, {1, -1});
  const auto spec = [&](const std::string& routers) {
    return "flux(routers=" + routers + ",sink=16,window=32,block=16)";
  };
  const std::vector<float> full = logits_of(tiny, "full", 130);
  EXPECT_EQ(logits_of(tiny, spec(folder / "full"), 130), full);
  EXPECT_EQ(logits_of(tiny, spec("full"), 130), full);
  std::vector<Flux::Route> routes;
  const std::vector<float> mixed = logits_of(tiny, spec(folder / "mixed"), 130, &routes);
  EXPECT_EQ(routes, (std::vector{Flux::Route::kFull, Flux::Route::kSparse}));
  // The first 48 positions lie within sink and window of all layers.
  const auto same = std::ranges::mismatch(mixed, full).in1 - mixed.begin();
  EXPECT_GE(same, 48 * 50);
  EXPECT_LT(same, std::ssize(full));
  EXPECT_EQ(logits_of(tiny, spec(folder / "mixed"), 29), mixed);
  EXPECT_NE(logits_of(tiny, spec("sparse"), 130), mixed);
}

}  // namespace
}  // namespace mneme
