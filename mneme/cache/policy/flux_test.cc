#include "mneme/cache/policy/flux.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/flux_testing.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"
#include "tests/support/memory_step.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::StepRows;
using Route = Flux::Route;

constexpr int64_t kDim = 8;

MemoryShape shape_of(int64_t layers, int64_t kv_heads = 1) {
  return {.q_heads = 2,
          .kv_heads = kv_heads,
          .k_dim = kDim,
          .v_dim = kDim,
          .context = 2048,
          .windows = std::vector<int64_t>(static_cast<size_t>(layers)),
          .model_fingerprint = "model"};
}

std::unique_ptr<SequenceMemory> build(const std::string& spec, const MemoryShape& shape) {
  return MemoryRegistry::builtin().build(spec, shape);
}

std::string spec_of(const std::string& routers) {
  return "flux(routers=" + routers + ",sink=5,window=60,block=16,pool=3)";
}

const Flux& flux(const SequenceMemory& memory) {
  return dynamic_cast<const Flux&>(dynamic_cast<const PagedMemory&>(memory).policy());
}

std::vector<Route> routes(const SequenceMemory& memory) {
  const auto all = flux(memory).routes();
  return {all.begin(), all.end()};
}

// A step whose queries are the unrotated ones too.
std::vector<float> run(SequenceMemory& memory, int64_t tokens, uint64_t seed, int64_t following = 0,
                       bool commits = true, std::vector<StepRows>* seen = nullptr) {
  Rng rng(seed);
  ThreadPool pool(2);
  const MemoryShape& shape = memory.shape();
  const StepPlan plan = memory.plan(tokens, following);
  memory.begin(plan);
  std::vector<float> answers;
  const size_t width = static_cast<size_t>(shape.q_heads * shape.v_dim);
  for (int64_t layer = 0; layer < shape.layers(); ++layer) {
    const StepRows rows = testing::random_rows(shape, tokens, rng);
    answers.resize(answers.size() + static_cast<size_t>(tokens) * width);
    const bool wanted = plan.unrotated_rows > 0;
    const int64_t before_last = (tokens - plan.unrotated_rows) * shape.q_heads * shape.k_dim;
    memory.attend({.layer = layer,
                   .q = rows.q.data(),
                   .k = rows.k.data(),
                   .v = rows.v.data(),
                   .first_unrotated = wanted ? rows.q.data() : nullptr,
                   .last_unrotated = wanted ? rows.q.data() + before_last : nullptr,
                   .scale = testing::kStepScale,
                   .out = answers.data() + answers.size() - static_cast<size_t>(tokens) * width},
                  pool);
    if (seen != nullptr) seen->push_back(rows);
  }
  if (commits) memory.commit();
  return answers;
}

// Softmax over the rows that the rule of the paper lets query i see, in float64.
std::vector<float> naive_streaming(const MemoryShape& shape, const StepRows& rows, int64_t tokens,
                                   int64_t sink_blocks, int64_t local_blocks, int64_t block) {
  std::vector<float> answers;
  const int64_t ratio = shape.q_heads / shape.kv_heads;
  for (int64_t i = 0; i < tokens; ++i) {
    for (int64_t h = 0; h < shape.q_heads; ++h) {
      std::vector<double> sum(static_cast<size_t>(kDim));
      double total = 0;
      for (int64_t j = 0; j <= i; ++j) {
        if (j / block >= sink_blocks && j / block <= i / block - local_blocks) continue;
        const float* q = rows.q.data() + (i * shape.q_heads + h) * kDim;
        const int64_t at = (j * shape.kv_heads + h / ratio) * kDim;
        double dot = 0;
        for (int64_t d = 0; d < kDim; ++d)
          dot += double{q[d]} * rows.k[static_cast<size_t>(at + d)];
        const double weight = std::exp(dot * testing::kStepScale);
        total += weight;
        for (int64_t d = 0; d < kDim; ++d)
          sum[static_cast<size_t>(d)] += weight * rows.v[static_cast<size_t>(at + d)];
      }
      for (const double value : sum) answers.push_back(static_cast<float>(value / total));
    }
  }
  return answers;
}

TEST(Flux, FullRoutesEqualFullBitForBit) {
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {1, 1});
  for (const std::string& routers : {std::string("full"), folder / "r"}) {
    const auto memory = build(spec_of(routers), shape_of(2));
    const auto full = build("full", shape_of(2));
    EXPECT_EQ(run(*memory, 300, 1), run(*full, 300, 1));
    for (int step = 0; step < 5; ++step) EXPECT_EQ(run(*memory, 1, 2), run(*full, 1, 2));
    EXPECT_EQ(run(*memory, 63, 3), run(*full, 63, 3));
    EXPECT_EQ(memory->capabilities().exact, false);
  }
}

TEST(Flux, SparseRoutesAreTheStreamingRule) {
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {-1});
  for (const int64_t kv_heads : {1, 2}) {
    const MemoryShape shape = shape_of(1, kv_heads);
    for (const std::string& routers : {std::string("sparse"), folder / "r"}) {
      for (const int64_t tokens : {1, 63, 100, 1000}) {
        const auto memory = build(spec_of(routers) + "+full(dtype=f32)", shape);
        std::vector<StepRows> rows;
        const auto got = run(*memory, tokens, 4, 0, true, &rows);
        // ceil(5 / 16) and ceil(60 / 16) blocks
        testing::expect_close(got, naive_streaming(shape, rows[0], tokens, 1, 4, 16), 2e-6, 2e-6,
                              routers);
      }
    }
  }
}

TEST(Flux, LayersThatStreamLetRowsGo) {
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {-1, 1, -1});
  const auto memory = build(spec_of(folder / "r"), shape_of(3));
  const auto full = build("full", shape_of(3));
  const StepPlan plan = memory->plan(1000);
  run(*memory, 1000, 1);
  run(*full, 1000, 1);
  EXPECT_EQ(routes(*memory), (std::vector{Route::kSparse, Route::kFull, Route::kSparse}));
  const auto& paged = dynamic_cast<const PagedMemory&>(*memory);
  EXPECT_EQ(paged.rows(1, 0).rows(), 1000);
  for (const int64_t layer : {0, 2}) {
    // The sink's page and those that the newest 64 rows, whole blocks, lie in.
    EXPECT_LE(paged.rows(layer, 0).rows(), 64 + 128);
    EXPECT_EQ(paged.rows(layer, 0).position(0), 0);
  }
  EXPECT_LT(memory->resident_bytes(), full->resident_bytes() / 2);
  // Known from then on; before it, all rows were promised.
  EXPECT_GE(plan.settled_bytes, full->resident_bytes());
  EXPECT_EQ(memory->plan(1).settled_bytes, memory->predict_bytes(1001));
  EXPECT_LT(memory->predict_bytes(1001), full->predict_bytes(1001) / 2);
}

TEST(Flux, DecidesByTheEndsOfThePromptOnce) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "r";
  testing::write_routers(path, kDim, {0, 0, 0, 0, 0, 0}, 100, 5);
  const MemoryShape shape = shape_of(6);
  const auto memory = build(spec_of(path), shape);
  EXPECT_TRUE(memory->capabilities().whole_text);
  std::vector<StepRows> rows;
  run(*memory, 40, 7, 0, true, &rows);
  const auto routers = FluxRouters::open(path, std::vector<bool>(6, true), kDim);
  std::vector<Route> want;
  for (int64_t layer = 0; layer < 6; ++layer) {
    const auto u = flux_pool(rows[static_cast<size_t>(layer)].q.data(), flux_prompt_ends(40, 3),
                             shape.q_heads, kDim);
    want.push_back(routers->of(layer)->chooses_full(u) ? Route::kFull : Route::kSparse);
  }
  EXPECT_THAT(want, ::testing::Contains(Route::kFull));
  EXPECT_THAT(want, ::testing::Contains(Route::kSparse));
  EXPECT_EQ(routes(*memory), want);
  EXPECT_FALSE(flux(*memory).approximate());
  // A second turn keeps it, asks for nothing more and may come in parts.
  EXPECT_EQ(memory->plan(30).unrotated_rows, 0);
  EXPECT_FALSE(memory->capabilities().whole_text);
  run(*memory, 30, 8);
  EXPECT_EQ(routes(*memory), want);
  // All forgotten: routed anew.
  memory->trim(0);
  EXPECT_EQ(routes(*memory), std::vector<Route>(6, Route::kOpen));
  run(*memory, 40, 9);
  EXPECT_NE(routes(*memory), want);
}

TEST(Flux, ATextInPartsIsRoutedByTheFirst) {
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {0, 0, 0, 0, 0, 0}, 100, 5);
  const auto whole = build(spec_of(folder / "r"), shape_of(6));
  const auto parts = build(spec_of(folder / "r"), shape_of(6));
  run(*whole, 40, 7);
  run(*parts, 40, 7, 60);
  EXPECT_TRUE(flux(*parts).approximate());
  EXPECT_EQ(routes(*parts), routes(*whole));
  run(*parts, 60, 8);
  EXPECT_EQ(routes(*parts), routes(*whole));
}

TEST(Flux, ChunksAnswerAsOneStep) {
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {-1});
  const MemoryShape shape = shape_of(1);
  const auto whole = build(spec_of(folder / "r"), shape);
  const auto chunked = build(spec_of(folder / "r"), shape);
  std::vector<StepRows> rows;
  const std::vector<float> want = run(*whole, 300, 1, 0, true, &rows);
  std::vector<float> got;
  ThreadPool pool(2);
  for (int64_t first = 0; first < 300; first += 77) {
    const int64_t tokens = std::min<int64_t>(77, 300 - first);
    const StepPlan plan = chunked->plan(tokens, 300 - first - tokens);
    chunked->begin(plan);
    const size_t before = got.size();
    got.resize(before + static_cast<size_t>(tokens * 2 * kDim));
    const float* q = rows[0].q.data() + first * 2 * kDim;
    chunked->attend({.layer = 0,
                     .q = q,
                     .k = rows[0].k.data() + first * kDim,
                     .v = rows[0].v.data() + first * kDim,
                     .first_unrotated = q,
                     .last_unrotated = q + (tokens - plan.unrotated_rows) * 2 * kDim,
                     .scale = testing::kStepScale,
                     .out = got.data() + before},
                    pool);
    chunked->commit();
  }
  EXPECT_EQ(got, want);
}

TEST(Flux, ForksFilesAndAbortsKeepTheDecision) {
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {-1, 1});
  const std::string spec = spec_of(folder / "r");
  const auto memory = build(spec, shape_of(2));
  run(*memory, 200, 1, 0, false);
  memory->abort();
  EXPECT_EQ(routes(*memory), std::vector<Route>(2, Route::kOpen));
  EXPECT_EQ(memory->resident_bytes(), build(spec, shape_of(2))->resident_bytes());

  run(*memory, 200, 1);
  const std::vector want = {Route::kSparse, Route::kFull};
  run(*memory, 10, 2, 0, false);
  memory->abort();
  EXPECT_EQ(routes(*memory), want);
  const auto fork = memory->fork();
  const MemoryIdentity identity{.model = "model"};
  save_memory(folder / "session", *memory, std::vector<int32_t>(200, 1), identity);
  const auto loaded =
      load_memory(folder / "session", MemoryRegistry::builtin(), shape_of(2), identity).memory;
  EXPECT_EQ(routes(*fork), want);
  EXPECT_EQ(routes(*loaded), want);
  const auto answers = run(*memory, 90, 3);
  EXPECT_EQ(run(*fork, 90, 3), answers);
  EXPECT_EQ(run(*loaded, 90, 3), answers);
}

TEST(Flux, LayersWithAWindowOfTheirOwnKeepIt) {
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {-1});
  MemoryShape shape = shape_of(2);
  shape.windows = {0, 40};  // the second needs no router
  const auto memory = build(spec_of(folder / "r"), shape);
  run(*memory, 100, 1);
  EXPECT_EQ(routes(*memory), (std::vector{Route::kSparse, Route::kFull}));
  EXPECT_EQ(flux(*memory).window(1, 0).window, 40);
  EXPECT_EQ(flux(*memory).window(1, 0).sink, 0);
}

TEST(Flux, SaysWhatIsWrong) {
  EXPECT_THAT(error_of([] { build("flux(routers=no/such/file)", shape_of(1)); }),
              HasSubstr("no/such/file"));
  EXPECT_THAT(error_of([] { build("flux(window=0)", shape_of(1)); }),
              HasSubstr("'window' must be an integer from 1"));
  EXPECT_EQ(error_of([] { flux_streaming_window(1, 2, 0); }),
            "flux: sink, window and block must be positive, got 1, 2 and 0");
  const testing::TemporaryFolder folder;
  testing::write_routers(folder / "r", kDim, {-1});
  const auto memory = build(spec_of(folder / "r"), shape_of(1));
  EXPECT_THAT(error_of([&] { testing::step(*memory, 9, 1); }),
              HasSubstr("needs the step's first and last 3 queries without rotary positions"));
  memory->abort();
  run(*memory, 200, 1);
  EXPECT_THAT(memory->cannot_trim_to(100), HasSubstr("layer 0 does not hold position"));
}

TEST(Flux, TrustsNoSavedDecision) {
  const testing::TemporaryFolder folder;
  const auto write = [&](std::vector<int32_t> routes) {
    const int32_t approximate = 0;
    const auto bytes = [](const auto* data) { return reinterpret_cast<const std::byte*>(data); };
    write_safetensors(
        folder / "state",
        {{"policy_routes",
          DType::kI32,
          {std::ssize(routes)},
          bytes(routes.data()),
          std::ssize(routes) * int64_t{sizeof(int32_t)}},
         {"policy_approximate", DType::kI32, {1}, bytes(&approximate), sizeof approximate}},
        {});
    return SafetensorsFile::open(folder / "state");
  };
  Flux policy(shape_of(2), {});
  policy.load_state(*write({1, 0}));
  EXPECT_EQ(policy.window(1, 0).window, 1024);
  for (const auto& [saved, message] : std::vector<std::pair<std::vector<int32_t>, std::string>>{
           {{1, 2}, "expected -1 (open), 0 (sparse) or 1 (full), got 2"},
           {{1, -1}, "1 of 2 layers are open, expected none or all"},
           {{-1, -1}, "no routers are there to decide"},
           {{1}, "expected I32 [2]"}}) {
    const std::vector<int32_t> routes = saved;  // clang captures no structured bindings
    EXPECT_THAT(error_of([&] { policy.load_state(*write(routes)); }), HasSubstr(message));
    EXPECT_EQ(policy.routes()[1], Route::kSparse);
  }
}

}  // namespace
}  // namespace mneme
