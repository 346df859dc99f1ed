#include "mneme/models/weight_format.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "mneme/cache/memory_registry.h"
#include "mneme/models/load_model.h"
#include "mneme/models/tiny_model_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::TinyModel;

std::vector<float> logits_of(DecoderModel& model, std::span<const int32_t> tokens, size_t chunk,
                             int threads = 2) {
  ThreadPool pool(threads);
  const auto memory = MemoryRegistry::builtin().build("full(dtype=f32)", model.memory_shape());
  std::vector<float> logits;
  for (size_t at = 0; at < tokens.size(); at += chunk) {
    const SequenceStep step{tokens.subspan(at, std::min(chunk, tokens.size() - at)), memory.get(),
                            Logits::kAll};
    const auto rows = model.forward({&step, 1}, pool);
    logits.insert(logits.end(), rows.begin(), rows.end());
  }
  return logits;
}

double relative_error(const std::vector<float>& got, const std::vector<float>& want) {
  double error = 0, size = 0;
  for (size_t i = 0; i < want.size(); ++i) {
    error += std::pow(static_cast<double>(got[i]) - want[i], 2);
    size += std::pow(static_cast<double>(want[i]), 2);
  }
  return std::sqrt(error / size);
}

TEST(WeightFormat, SpecsAreReadAndWritten) {
  EXPECT_EQ(parse_weight_format("file").text(), "file");
  EXPECT_EQ(parse_weight_format("int8").text(),
            "int8(threshold=6,activations=auto,keep_original=false)");
  for (const char* spec : {"int8(threshold=0,activations=int8,keep_original=true)",
                           "int8(threshold=2.5,activations=float,keep_original=false)"}) {
    EXPECT_EQ(parse_weight_format(spec).text(), spec);
  }
  const auto refusal = [](const char* spec) {
    return error_of([&] { parse_weight_format(spec); });
  };
  EXPECT_THAT(refusal("int4"),
              HasSubstr("unknown form of weights 'int4', expected file, float or int8"));
  EXPECT_THAT(refusal("int8+file"), HasSubstr("cannot be joined"));
  EXPECT_THAT(refusal("file(threshold=6)"), HasSubstr("file has no parameters"));
  EXPECT_THAT(refusal("int8(limit=6)"), HasSubstr("int8 has no parameter 'limit', only threshold"));
  EXPECT_THAT(refusal("int8(threshold=-1)"),
              HasSubstr("threshold must be 0 (no outliers) or a positive number, got '-1'"));
  EXPECT_THAT(refusal("int8(threshold=6x)"), HasSubstr("got '6x'"));
  EXPECT_THAT(refusal("int8(threshold=nan)"), HasSubstr("got 'nan'"));
  EXPECT_THAT(refusal("int8(activations=bf16)"),
              HasSubstr("activations must be auto, int8 or float, got 'bf16'"));
  EXPECT_THAT(refusal("int8(keep_original=yes)"), HasSubstr("must be false or true, got 'yes'"));
}

TEST(WeightFormat, Int8IsNearAndGoesBack) {
  TinyModel tiny;
  DecoderModel& model = tiny.model();
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = tiny.tokens(100);
  const std::vector<float> stored = logits_of(model, tokens, 100);
  EXPECT_EQ(model.linear_form(), "file");
  const std::string fingerprint = model_fingerprint(model);

  const auto error_under = [&](const char* spec) {
    set_weight_format(model, parse_weight_format(spec), pool);
    EXPECT_EQ(model.linear_form(), parse_weight_format(spec).text());
    return relative_error(logits_of(model, tokens, 100), stored);
  };
  // A weight in 127 levels is off by at most 1/254 of its row's largest, about 1/3 of that on
  // average: well under 2 % of the result.
  const double weight_only = error_under("int8(activations=float)");
  EXPECT_GT(weight_only, 0);
  EXPECT_LT(weight_only, 0.02);
  const double both = error_under("int8(threshold=0,activations=int8)");
  EXPECT_GT(both, weight_only);
  EXPECT_LT(both, 0.04);
  // Every column an outlier, with its original weight: nothing is quantised.
  EXPECT_LT(error_under("int8(threshold=1e-30,activations=int8,keep_original=true)"), 1e-5);

  EXPECT_NE(model_fingerprint(model), fingerprint);
  set_weight_format(model, {}, pool);
  EXPECT_EQ(logits_of(model, tokens, 100), stored);
  EXPECT_EQ(model_fingerprint(model), fingerprint);
}

TEST(WeightFormat, FloatProductsGoBackWithTheOutputLayer) {
  TinyModel tiny;
  DecoderModel& model = tiny.model();
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = tiny.tokens(40);
  const std::vector<float> stored = logits_of(model, tokens, 40);
  const int64_t bytes = model.weight_bytes();
  for (const char* between : {"float", "int8"}) {
    set_weight_format(model, parse_weight_format("float"), pool);
    EXPECT_EQ(model.linear_form(), "float");
    set_weight_format(model, parse_weight_format(between), pool);
    set_weight_format(model, parse_weight_format("file"), pool);
    EXPECT_EQ(logits_of(model, tokens, 40), stored) << between;
    EXPECT_EQ(model.weight_bytes(), bytes) << between;
  }
}

TEST(WeightFormat, WeightOnlyGivesTheSameBitsInAnyChunksAndThreads) {
  TinyModel tiny;
  ThreadPool pool(2);
  set_weight_format(tiny.model(), parse_weight_format("int8(activations=float)"), pool);
  const std::vector<int32_t> tokens = tiny.tokens(130);
  const std::vector<float> whole = logits_of(tiny.model(), tokens, 130);
  for (const size_t chunk : {1, 2, 7, 64}) {
    EXPECT_EQ(logits_of(tiny.model(), tokens, chunk, 1), whole) << "chunk " << chunk;
  }
}

TEST(WeightFormat, AutoIsWeightOnlyTokenByToken) {
  TinyModel tiny;
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = tiny.tokens(20);
  set_weight_format(tiny.model(), parse_weight_format("int8(activations=float)"), pool);
  const std::vector<float> weight_only = logits_of(tiny.model(), tokens, 1);
  set_weight_format(tiny.model(), parse_weight_format("int8"), pool);
  EXPECT_EQ(logits_of(tiny.model(), tokens, 1), weight_only);
  EXPECT_NE(logits_of(tiny.model(), tokens, 20), weight_only);
}

TEST(WeightFormat, BytesAreThoseHeld) {
  TinyModel tiny;
  DecoderModel& model = tiny.model();
  ThreadPool pool(2);
  const int64_t stored = model.weight_bytes();
  int64_t weights = 0, outputs = 0;
  for (const auto& [out, in] : {std::pair<int64_t, int64_t>{128, 64},
                                {64, 64},
                                {64, 64},
                                {64, 128},
                                {96, 64},
                                {96, 64},
                                {64, 96}}) {
    weights += 2 * out * in;
    outputs += 2 * out;
  }
  EXPECT_EQ(model.linear_bytes(), 4 * weights);
  set_weight_format(model, parse_weight_format("int8"), pool);
  EXPECT_EQ(model.linear_bytes(), weights + 8 * outputs);
  // The tensors of this model live in memory and cannot be given back.
  EXPECT_EQ(model.weight_bytes(), stored + weights + 8 * outputs);
}

TEST(WeightFormat, AnObserverSeesEveryCall) {
  TinyModel tiny;
  ThreadPool pool(2);
  const std::vector<int32_t> tokens = tiny.tokens(10);
  std::vector<std::string> seen;
  int64_t outliers = 0;
  set_weight_format(tiny.model(), parse_weight_format("int8(threshold=1)"), pool,
                    [&](const Int8Observation& seen_call) {
                      seen.push_back(seen_call.weight.name);
                      EXPECT_EQ(seen_call.layer, seen.size() <= 7 ? 0 : 1);
                      EXPECT_EQ(seen_call.rows, 10);
                      EXPECT_TRUE(seen_call.call.quantised);
                      outliers += seen_call.call.outlier_columns;
                    });
  logits_of(tiny.model(), tokens, 10);
  ASSERT_EQ(seen.size(), 14u);
  EXPECT_EQ(seen[6], "model.layers.0.mlp.down_proj.weight");
  EXPECT_GT(outliers, 0);
}

TEST(WeightFormat, AWeightThatIsNotFiniteIsRefusedByName) {
  auto tensors = testing::tiny_tensors(7);
  const std::string name = "model.layers.1.mlp.up_proj.weight";
  std::vector<float> values(96 * 64, 0.5f);
  values[65] = std::numeric_limits<float>::infinity();
  tensors->remove(name);
  tensors->add(name, {96, 64}, values);
  const auto model = load_llama_state_dict(testing::tiny_config(), tensors);
  ThreadPool pool(2);
  EXPECT_THAT(
      error_of([&] { set_weight_format(*model, parse_weight_format("int8"), pool); }),
      HasSubstr("model.layers.1.mlp.up_proj.weight: expected finite weights, got inf in row 1"));
}

}  // namespace
}  // namespace mneme
