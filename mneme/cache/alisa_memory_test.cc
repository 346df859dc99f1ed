#include "mneme/cache/alisa_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/core/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/memory_step.h"
#include "tests/support/saved_state.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::StepRows;

// Layer 1 has a window of the model's own.
const MemoryShape kShape = {.q_heads = 6,
                            .kv_heads = 2,
                            .k_dim = 16,
                            .v_dim = 24,
                            .context = 2048,
                            .windows = {0, 50, 0},
                            .model_fingerprint = "test"};

std::unique_ptr<SequenceMemory> build(const std::string& spec) {
  return MemoryRegistry::builtin().build(spec, kShape);
}
const AlisaMemory& alisa(const SequenceMemory& memory) {
  return dynamic_cast<const AlisaMemory&>(memory);
}

StepRows rows_at(int64_t layer, int64_t first, int64_t tokens) {
  return testing::rows_at(kShape, layer, first, tokens);
}

std::vector<float> step(SequenceMemory& memory, int64_t tokens, int64_t following = 0,
                        int threads = 2) {
  ThreadPool pool(threads);
  std::vector<float> answers;
  const int64_t first = memory.length();
  memory.begin(memory.plan(tokens, following));
  for (int64_t layer = 0; layer < kShape.layers(); ++layer)
    testing::attend_rows(memory, layer, rows_at(layer, first, tokens), pool, answers);
  memory.commit();
  return answers;
}

// The rows that a session would get by running the prefix again: here those that were given.
void replay(SequenceMemory& memory, int64_t tokens = 1) {
  PrefixReplay* const replay = memory.prefix_replay();
  const int64_t prefix = replay == nullptr ? 0 : replay->wanted(tokens, 0);
  if (prefix == 0) return;
  const auto pass = replay->make_pass(tokens, 0);
  step(*pass, prefix);
  replay->take(*pass);
  EXPECT_EQ(replay->wanted(tokens, 0), 0);
}

std::vector<float> run(SequenceMemory& memory, int64_t prompt, int64_t steps) {
  std::vector<float> answers = step(memory, prompt);
  for (int64_t i = 0; i < steps; ++i) {
    replay(memory);
    const std::vector<float> one = step(memory, 1);
    answers.insert(answers.end(), one.begin(), one.end());
  }
  return answers;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0;
  EXPECT_EQ(a.size(), b.size());
  for (size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(double{a[i]} - b[i]);
    if (!(d <= worst)) worst = d;
  }
  return worst;
}

TEST(AlisaMemory, ReadingAllIsFullAttention) {
  const auto ours = build("alisa(ratio=1)+full(dtype=f32)"), full = build("full(dtype=f32)");
  EXPECT_TRUE(same_bits(step(*ours, 150), step(*full, 150))) << "a text is the same attention";
  for (int64_t n = 152; n <= 180; n += 2) {
    // Of an odd number of tokens two equal halves leave one out.
    step(*full, 1), step(*ours, 1);
    EXPECT_LT(distance(step(*full, 1), step(*ours, 1)), 2e-6) << n;
  }
}

// The answer of a sparse step is dense attention over what it read, and what it read is the choice.
TEST(AlisaMemory, AQueryReadsTheNewestAndTheChosen) {
  const auto memory = build("alisa(ratio=0.3)+full(dtype=f32)");
  step(*memory, 100);
  for (int64_t i = 0; i < 40; ++i) {
    const int64_t n = memory->length() + 1, k = half_window(n, 0.3);
    const auto& chosen = alisa(*memory).chosen(0);
    const std::vector<int32_t> older(chosen.begin(), chosen.end());
    ASSERT_EQ(std::ssize(older), k);
    const std::vector<float> got = step(*memory, 1);
    const auto read = alisa(*memory).read(0);
    ASSERT_EQ(std::ssize(read), 2 * k);
    ASSERT_TRUE(std::equal(older.begin(), older.end(), read.begin()));
    ASSERT_EQ(read[static_cast<size_t>(k)], n - k);
    const StepRows now = rows_at(0, n - 1, 1);
    for (int64_t h = 0; h < kShape.q_heads; ++h) {
      std::vector<double> want(static_cast<size_t>(kShape.v_dim));
      double sum = 0;
      for (const int32_t position : read) {
        const StepRows row = rows_at(0, position, 1);
        double s = 0;
        for (int64_t d = 0; d < kShape.k_dim; ++d) {
          s += double{now.q[static_cast<size_t>(h * kShape.k_dim + d)]} *
               row.k[static_cast<size_t>(h / 3 * kShape.k_dim + d)];
        }
        const double weight = std::exp(s * double{testing::kStepScale});
        sum += weight;
        for (int64_t d = 0; d < kShape.v_dim; ++d)
          want[static_cast<size_t>(d)] +=
              weight * row.v[static_cast<size_t>(h / 3 * kShape.v_dim + d)];
      }
      for (int64_t d = 0; d < kShape.v_dim; ++d)
        ASSERT_NEAR(got[static_cast<size_t>(h * kShape.v_dim + d)],
                    want[static_cast<size_t>(d)] / sum, 2e-6);
    }
  }
}

TEST(AlisaMemory, WhereTokensLieChangesNoBit) {
  const testing::TemporaryFolder folder;
  const std::string ratio = "alisa(ratio=0.2,block=8,slow=same";
  const auto all = build(ratio + ")");
  const std::vector<float> want = run(*all, 200, 120);
  for (const std::string& more :
       {std::string(",capacity=104"), std::string(",capacity=104,beta=0.5,p2=5"),
        std::string(",capacity=160,alpha=0.7,beta=1,p2=0"), std::string(",alpha=0.5,p1=10"),
        ",capacity=104,store=disk,folder=" + folder.path()}) {
    const auto memory = build(ratio + more + ")");
    EXPECT_TRUE(same_bits(run(*memory, 200, 120), want)) << more;
    EXPECT_GT(alisa(*memory).placement().slow_end, 0) << more;
  }
}

TEST(AlisaMemory, TheFastTierHoldsItsCapacityAndDeletedTokensComeBack) {
  const auto memory = build("alisa(ratio=0.4,block=8,capacity=120,beta=1,p2=10)");
  const auto& ours = alisa(*memory);
  step(*memory, 200);
  int64_t loads = 0, recomputes = 0, stores = 0;
  for (int64_t i = 0; i < 50; ++i) {
    replay(*memory);
    step(*memory, 1);
    const TierStep& did = ours.last_step();
    EXPECT_LE(did.fast, 120);
    EXPECT_EQ(did.fast + did.slow + did.deleted, memory->length());
    EXPECT_EQ(did.phase, i < 10 ? 2 : 3);
    EXPECT_EQ(did.recomputes > 0, did.prefix > 0);
    loads += did.loads, recomputes += did.recomputes, stores += did.stores;
  }
  EXPECT_EQ(ours.placement().deleted, std::min<int64_t>(ours.placement().slow_end, 200));
  EXPECT_GT(loads, 0);
  EXPECT_GT(recomputes, 0);
  EXPECT_GT(stores, 0);
}

TEST(AlisaMemory, ADeletedTokenThatWasNotRunAgainIsRefused) {
  const auto memory = build("alisa(ratio=0.4,block=8,capacity=104,beta=1,p2=0)");
  step(*memory, 200);
  EXPECT_THAT(memory->plan(20, 0).refusal, HasSubstr("were deleted: the session must run these"));
  replay(*memory, 20);
  EXPECT_TRUE(memory->plan(20, 0).possible());
  const auto full = build("full");
  step(*full, 200);
  // A second text is dense again; int8 tokens of the slow tier are all that differs.
  EXPECT_LT(distance(step(*memory, 20), step(*full, 20)), 0.03);
}

TEST(AlisaMemory, TextsInPartsAndBatchesOfThreadsGiveTheSame) {
  const std::string spec = "alisa(ratio=0.3,block=8,capacity=120)+full(dtype=f32)";
  const auto whole = build(spec), parts = build(spec);
  std::vector<float> want = step(*whole, 150), got;
  const int64_t sizes[] = {61, 1, 30, 58};
  std::vector<std::vector<float>> layers(3);
  int64_t left = 150;
  for (const int64_t size : sizes) {
    left -= size;
    const std::vector<float> part = step(*parts, size, left, 1);
    const size_t rows = part.size() / 3;
    for (size_t l = 0; l < 3; ++l)
      layers[l].insert(layers[l].end(), part.begin() + static_cast<int64_t>(l * rows),
                       part.begin() + static_cast<int64_t>((l + 1) * rows));
  }
  for (const auto& layer : layers) got.insert(got.end(), layer.begin(), layer.end());
  EXPECT_TRUE(same_bits(got, want));
  for (int64_t i = 0; i < 10; ++i)
    EXPECT_TRUE(same_bits(step(*parts, 1, 0, 1), step(*whole, 1))) << "step " << i;
}

TEST(AlisaMemory, ForksAndFilesGoOnBitForBit) {
  const testing::TemporaryFolder folder;
  const std::string spec = "alisa(ratio=0.3,block=8,capacity=104,beta=0.5,p2=20)";
  const auto memory = build(spec);
  run(*memory, 150, 30);
  const std::string path = folder / "memory";
  const MemoryIdentity identity{"test", "", ""};
  save_memory(path, *memory, std::vector<int32_t>(static_cast<size_t>(memory->length())), identity);
  const auto fork = memory->fork();
  const auto loaded = load_memory(path, MemoryRegistry::builtin(), kShape, identity).memory;
  for (int64_t i = 0; i < 30; ++i) {
    for (SequenceMemory* one : {memory.get(), fork.get(), loaded.get()}) replay(*one);
    const std::vector<float> want = step(*memory, 1);
    EXPECT_TRUE(same_bits(step(*fork, 1), want)) << i;
    EXPECT_TRUE(same_bits(step(*loaded, 1), want)) << i;
    EXPECT_EQ(loaded->resident_bytes(), fork->resident_bytes());
  }
  EXPECT_EQ(alisa(*loaded).placement(), alisa(*memory).placement());
}

// A saved state is not trusted: every tensor it may lack or get wrong is named, and nothing changes.
TEST(AlisaMemory, ASpoiltStateIsRefusedAndChangesNothing) {
  const std::string spec = "alisa(ratio=0.3,block=8,capacity=104)";
  const auto memory = build(spec), other = build(spec);
  run(*memory, 150, 10);
  const std::vector<StateTensor> state = memory->save_state();
  const auto refusal = [&](const std::string& name, const auto& spoil) {
    std::vector<StateTensor> spoilt = state;
    const auto found =
        std::ranges::find_if(spoilt, [&](const StateTensor& t) { return t.name == name; });
    EXPECT_NE(found, spoilt.end()) << name;
    spoil(*found);
    const testing::SavedState source(std::move(spoilt));
    const std::string why = error_of([&] { other->load_state(source, 160); });
    EXPECT_EQ(other->length(), 0);
    return why;
  };
  for (const StateTensor& tensor : state) {
    SCOPED_TRACE(tensor.name);
    EXPECT_THAT(refusal(tensor.name, [](StateTensor& t) { t.name += "_"; }),
                HasSubstr(tensor.name));
  }
  EXPECT_THAT(refusal("alisa_settings", [](StateTensor& t) { t.bytes[6] = std::byte{'X'}; }),
              HasSubstr("was saved with"));
  EXPECT_THAT(refusal("alisa_state", [](StateTensor& t) { t.bytes[0] = std::byte{0xff}; }),
              HasSubstr("alisa_state does not fit 160 tokens"));
  EXPECT_THAT(refusal("L0_history_tokens", [](StateTensor& t) { t.bytes[3] = std::byte{0x7f}; }),
              HasSubstr("history_tokens does not fit"));
  EXPECT_THAT(refusal("L2_history_rows", [](StateTensor& t) { t.bytes[16] = std::byte{0xff}; }),
              HasSubstr("history_rows does not fit"));
  EXPECT_THAT(refusal("L0_fast", [](StateTensor& t) { t.bytes[1] = std::byte{0x7c}; }),
              HasSubstr("layer 0 holds a number"));
  const testing::SavedState good(state);
  EXPECT_THAT(error_of([&] { other->load_state(good, 161); }), HasSubstr("L0_fast"));
  other->load_state(good, 160);
  EXPECT_TRUE(same_bits(step(*other, 1), step(*memory, 1)));
}

TEST(AlisaMemory, AnAbortedStepLeavesNothing) {
  const std::string spec = "alisa(ratio=0.3,block=8,capacity=104)";
  const auto memory = build(spec), other = build(spec);
  ThreadPool pool(2);
  std::vector<float> answers;
  // A fresh text, after its first layer has moved; then a text and a token that go on.
  for (const int64_t tokens : {150, 40, 1}) {
    memory->begin(memory->plan(tokens, 0));
    testing::attend_rows(*memory, 0, rows_at(0, memory->length(), tokens), pool, answers);
    memory->abort();
    EXPECT_TRUE(same_bits(step(*memory, tokens), step(*other, tokens)));
    EXPECT_EQ(memory->resident_bytes(), other->resident_bytes());
  }
}

TEST(AlisaMemory, BytesAreThosePredicted) {
  for (const char* spec : {"alisa", "alisa(ratio=0.3,block=8,capacity=136)",
                           "alisa(capacity=192,slow=int4)", "alisa(ratio=0.5,alpha=0.4,p1=0)"}) {
    for (const int64_t length : {1, 2, 63, 150, 400}) {
      if (length == 1) continue;  // a token alone is no text
      const auto memory = build(spec);
      const StepPlan plan = memory->plan(length, 0);
      ASSERT_EQ(plan.refusal, "");
      EXPECT_EQ(plan.settled_bytes, memory->predict_bytes(length));
      step(*memory, length);
      EXPECT_EQ(memory->resident_bytes(), memory->predict_bytes(length)) << spec << " " << length;
      EXPECT_LE(memory->peak_bytes(), plan.resident_bytes) << spec << " " << length;
      const StepPlan next = memory->plan(1, 0);
      step(*memory, 1);
      EXPECT_LE(memory->resident_bytes(), next.resident_bytes) << spec;
    }
  }
}

TEST(AlisaMemory, RefusesWhatCannotBe) {
  const auto refusal = [](const std::string& spec) { return error_of([&] { build(spec); }); };
  EXPECT_THAT(refusal("alisa(ratio=0)"), HasSubstr("ratio"));
  EXPECT_THAT(refusal("alisa(capacity=100)"), HasSubstr("fewer than three blocks of 64"));
  EXPECT_THAT(refusal("alisa(capacity=200)"), HasSubstr("whole blocks of 64 tokens, got 200"));
  EXPECT_THAT(refusal("alisa(p1=5,p2=4)"), HasSubstr("p1 must be 0 to p2 = 4, got 5"));
  EXPECT_THAT(refusal("alisa+q8"), HasSubstr("slow=int8"));
  EXPECT_THAT(refusal("alisa(slow=int2)"), HasSubstr("int2"));
  EXPECT_THAT(build("alisa(ratio=0.8,block=8,capacity=104)")->plan(400, 0).refusal,
              HasSubstr("a fast tier of 104 tokens is too small: a query at 400 reads 320"));
  EXPECT_THAT(build("alisa(ratio=0.2,block=8,capacity=104,p1=50)")->plan(400, 0).refusal,
              HasSubstr("until step p1 = 50 all 400 tokens stay"));
  EXPECT_THAT(build("alisa")->plan(2049, 0).refusal, HasSubstr("1 tokens longer than the model's"));
  const auto memory = build("alisa");
  step(*memory, 20);
  EXPECT_THAT(error_of([&] { memory->trim(10); }), HasSubstr("part of what chooses"));
  memory->trim(0);
  EXPECT_EQ(memory->resident_bytes(), 0);
  memory->set_budget(1000);
  EXPECT_THAT(memory->plan(100, 0).refusal, HasSubstr("more than the budget of 1000"));
}

}  // namespace
}  // namespace mneme
