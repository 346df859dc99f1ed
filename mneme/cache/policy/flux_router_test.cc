#include "mneme/cache/policy/flux_router.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "mneme/cache/policy/flux.h"
#include "mneme/cache/policy/flux_testing.h"
#include "mneme/kernels/paged_attention.h"
#include "tests/support/error_of.h"
#include "tests/support/golden.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using testing::GoldenCase;
using testing::GoldenFile;
using ::testing::HasSubstr;

// The parameters of a golden case, as a file of one router without a prefix.
class CaseTensors final : public TensorSource {
 public:
  explicit CaseTensors(const GoldenCase& golden) : origin_(golden.name()) {
    for (const std::string& part : golden.parts()) {
      if (!part.starts_with("param.")) continue;
      storage_.push_back(golden.floats(part));
      tensors_.push_back({part.substr(6), DType::kF32, golden.shape(part),
                          reinterpret_cast<const std::byte*>(storage_.back().data()),
                          std::ssize(storage_.back()) * int64_t{sizeof(float)}});
    }
  }
  const TensorView* find(std::string_view name) const override {
    for (const TensorView& tensor : tensors_)
      if (tensor.name == name) return &tensor;
    return nullptr;
  }
  const std::vector<TensorView>& tensors() const override { return tensors_; }
  const std::string& origin() const override { return origin_; }

 private:
  std::vector<std::vector<float>> storage_;
  std::vector<TensorView> tensors_;
  std::string origin_;
};

// Of one sample: what the mode of the case pools.
std::vector<RowSpan> spans_of(const GoldenCase& golden, const int64_t* ranges, int64_t rows) {
  const auto& c = golden.config();
  const int64_t pool = c["pool_size"];
  if (ranges == nullptr) return flux_prompt_ends(rows, pool);
  const std::string mode = c["pooling_mode"];
  // The official rule is that of the other modes for the segment of the first token; there the start
  // of its second half is negative, which Python reads as nothing.
  if (mode == "first_token") return {{ranges[0], std::min(ranges[0] + pool, rows)}};
  // (bos)(context)(question)(answer): from where to where the ends lie.
  const int64_t begin = ranges[mode == "q" ? 4 : 2], end = ranges[5] + 1;
  return {{begin, std::min(begin + pool, rows)}, {std::max<int64_t>(0, end - pool), end}};
}

void check_router(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t batch = c["B"], rows = c["S"], heads = c["H"], dim = c["D"];
  const FluxRouter router = FluxRouter::load(CaseTensors(golden), "", dim);
  const std::vector<float> q = golden.floats("in.q");
  const bool trains = c.value("training", false);
  const std::vector<int64_t> ranges =
      golden.has("in.range_ids") ? golden.integers("in.range_ids") : std::vector<int64_t>();
  std::vector<float> features, logits, full;
  for (int64_t b = 0; b < batch; ++b) {
    const auto spans = spans_of(golden, ranges.empty() ? nullptr : ranges.data() + 8 * b, rows);
    const auto u = flux_pool(q.data() + b * rows * heads * dim, spans, heads, dim);
    const auto f = router.features(u), l = router.logits(f);
    features.insert(features.end(), f.begin(), f.end());
    logits.insert(logits.end(), l.begin(), l.end());
    full.push_back(FluxRouter::full(l) ? 1 : 0);
  }
  const auto expect = [&](const std::vector<float>& got, const std::string& part) {
    testing::expect_close(got, golden.floats(part), golden.abs_tolerance(), golden.rel_tolerance(),
                          golden.name() + "/" + part);
  };
  if (golden.has("out.pooled")) expect(features, "out.pooled");
  expect(logits, "out.logits");
  if (!trains) expect(full, "out.z");
}

// The layer's two kinds of attention, as the policy asks for them, over pages of floats.
void check_attention(const GoldenCase& golden) {
  const auto& c = golden.config();
  const int64_t batch = c["B"], heads = c["Hq"], kv_heads = c["Hkv"], queries = c["Sq"],
                keys = c["Sk"], dim = c["D"], block = c["block"];
  const RowWindow streaming = flux_streaming_window(
      c["sink_blocks"].get<int64_t>() * block, c["local_blocks"].get<int64_t>() * block, block);
  const int64_t first = keys - queries;
  const auto mask = golden.integers("out.mask");
  for (int64_t i = 0; i < queries; ++i) {
    for (int64_t j = 0; j < keys; ++j) {
      const int64_t p = first + i;
      const bool sees = j <= p && (j < streaming.sink || j >= streaming.first(p));
      EXPECT_EQ(sees, mask[static_cast<size_t>(i * keys + j)] != 0)
          << golden.name() << i << " " << j;
    }
  }
  const auto q = golden.floats("in.q"), k = golden.floats("in.k"), v = golden.floats("in.v");
  const RowFormat format{.encoding = RowEncoding::kF32, .k_dim = dim, .v_dim = dim};
  AttentionScratch scratch;
  ThreadPool pool(2);
  for (const bool full : {true, false}) {
    std::vector<float> answers(q.size());
    for (int64_t b = 0; b < batch; ++b) {
      std::vector<PagedRows> held;
      std::vector<std::span<const PageView>> views;
      for (int64_t h = 0; h < kv_heads; ++h) {
        PagedRows& rows = held.emplace_back(format);
        rows.reserve(0, keys);
        for (int64_t j = 0; j < keys; ++j) {
          const int64_t at = ((b * kv_heads + h) * keys + j) * dim;
          rows.append(static_cast<int32_t>(j), k.data() + at, v.data() + at);
        }
      }
      for (const PagedRows& rows : held) views.push_back(rows.views());
      const auto size = static_cast<size_t>(queries * heads * dim);
      std::vector<float> turned(size), out(size);
      const auto at = [&](int64_t h, int64_t i) { return ((b * heads + h) * queries + i) * dim; };
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < queries; ++i)
          std::copy_n(q.data() + at(h, i), dim, turned.data() + (i * heads + h) * dim);
      paged_attention({.format = format,
                       .q_heads = heads,
                       .kv_heads = kv_heads,
                       .scale = 1 / std::sqrt(static_cast<float>(dim)),
                       .window = full ? RowWindow{} : streaming},
                      queries, first, turned.data(), views, out.data(), scratch, pool);
      for (int64_t h = 0; h < heads; ++h)
        for (int64_t i = 0; i < queries; ++i)
          std::copy_n(out.data() + (i * heads + h) * dim, dim, answers.data() + at(h, i));
    }
    const std::string part = full ? "out.full" : "out.streaming";
    testing::expect_close(answers, golden.floats(part), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/" + part);
  }
}

TEST(GoldenFluxRouter, DecidesAsTheOfficialOne) {
  const auto file = GoldenFile::open("22-flux-attention");
  if (file == nullptr) GTEST_SKIP();
  int64_t routers = 0, attentions = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (golden.kind() == "router") check_router(golden), ++routers;
    if (golden.kind() == "attn") check_attention(golden), ++attentions;
  }
  EXPECT_GT(routers, 0);
  EXPECT_GT(attentions, 0);
}

TEST(FluxRouter, PoolsNothingAsZeros) {
  const float q[] = {1, 2, 3, 4};
  EXPECT_EQ(flux_pool(q, {}, 1, 2), std::vector<float>({0, 0}));
  const RowSpan both[] = {{0, 1}, {0, 2}};  // rows that lie in two spans count twice
  EXPECT_EQ(flux_pool(q, both, 1, 2), std::vector<float>({5.0f / 3, 8.0f / 3}));
}

TEST(FluxRouter, ATieStreams) {
  EXPECT_FALSE(FluxRouter::full(std::vector<float>{1, 1}));
  EXPECT_FALSE(FluxRouter::full(std::vector<float>{0}));
  EXPECT_TRUE(FluxRouter::full(std::vector<float>{1, 1.5f}));
  EXPECT_TRUE(FluxRouter::full(std::vector<float>{0.1f}));
}

TEST(FluxRouters, OneFileIsReadOnceUntilItChanges) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "routers.safetensors";
  testing::write_routers(path, 4, {1, -1});
  const auto first = FluxRouters::open(path, {true, true}, 4);
  EXPECT_EQ(first, FluxRouters::open(path, {true, true}, 4));
  EXPECT_TRUE(first->of(0)->chooses_full(std::vector<float>(4)));
  EXPECT_FALSE(first->of(1)->chooses_full(std::vector<float>(4)));
  // 4 -> 32 -> 8 -> 16 -> 4 -> 2, weights and biases.
  EXPECT_EQ(first->of(0)->bytes(), 4 * (4 * 32 + 32 * 8 + 8 * 16 + 16 * 4 + 4 * 2 + 62));
  testing::write_routers(path, 4, {1, -1, 1});
  EXPECT_NE(first, FluxRouters::open(path, {true, true}, 4));
}

TEST(FluxRouters, SaysWhatDoesNotFit) {
  const testing::TemporaryFolder folder;
  const std::string path = folder / "routers.safetensors";
  testing::write_routers(path, 4, {1});
  EXPECT_THAT(error_of([&] {
                FluxRouters::open(path, {true, true}, 4);
              }),
              HasSubstr("the router's model.layers.1.self_attn.mask_allocator.cls_feat_extractor.0"
                        ".weight is missing"));
  EXPECT_THAT(error_of([&] { FluxRouters::open(path, {true}, 8); }),
              HasSubstr("cls_feat_extractor.0.weight is [32, 4], expected [64, 8]"));
  EXPECT_EQ(FluxRouters::open(path, {true, false}, 4)->of(1), nullptr);
}

}  // namespace
}  // namespace mneme
