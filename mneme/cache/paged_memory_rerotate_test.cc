// Closing ranks, beside twins that do not: what a row was is known from a memory without it, whose
// positions are tokens.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "mneme/cache/memory_file.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/rotary_turns.h"
#include "mneme/kernels/hadamard.h"
#include "tests/support/error_of.h"
#include "tests/support/memory_step.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::StepRows;

constexpr int64_t kTokens = 2000;  // the most that a test reads

// Layer 1 has a window of the model's own and turns otherwise.
MemoryShape shape_of_context(int64_t context) {
  return {.q_heads = 6,
          .kv_heads = 2,
          .k_dim = 64,
          .v_dim = 64,
          .context = context,
          .windows = {0, 90, 0},
          .rotary = {{.base = 1000},
                     {.pairs = RopePairs::kInterleaved, .base = 300, .scale = 2},
                     {.base = 1000}},
          .model_fingerprint = "test"};
}

class Rerotation : public ::testing::Test {
 protected:
  std::unique_ptr<SequenceMemory> build(const std::string& spec) const {
    return MemoryRegistry::builtin().build(spec, shape_);
  }
  static const PagedMemory& paged(const SequenceMemory& memory) {
    return dynamic_cast<const PagedMemory&>(memory);
  }
  const float* raw_key(const StepRows& rows, int64_t token, int64_t head) const {
    return rows.k.data() + (token * shape_.kv_heads + head) * shape_.k_dim;
  }
  // Tokens `first`.. in one step, turned to the positions that the memory gives them, as a model does.
  std::vector<float> read(SequenceMemory& memory, int64_t first, int64_t tokens,
                          int64_t following = 0) {
    std::vector<float> answers;
    memory.begin(memory.plan(tokens, following));
    const int64_t start = memory.length();
    for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
      StepRows rows = testing::rows_at(shape_, layer, first, tokens);
      turn(layer, rows.q, shape_.q_heads, start);
      turn(layer, rows.k, shape_.kv_heads, start);
      testing::attend_rows(memory, layer, rows, pool_, answers);
    }
    memory.commit();
    return answers;
  }
  void turn(int64_t layer, std::vector<float>& x, int64_t heads, int64_t position) const {
    const int64_t dim = shape_.k_dim;
    for (int64_t i = 0; i < std::ssize(x) / dim; ++i)
      turns_.turn(layer, x.data() + i * dim, position + i / heads, x.data() + i * dim);
  }
  int64_t most_rows(const SequenceMemory& memory) const {
    int64_t most = 0;
    for (int64_t head = 0; head < shape_.layers() * shape_.kv_heads; ++head)
      most =
          std::max(most, paged(memory).rows(head / shape_.kv_heads, head % shape_.kv_heads).rows());
    return most;
  }
  // The largest difference of a key of `memory` from the token's own key at the row's position, and
  // every value bit for bit. `twin` has let the same rows go and not closed ranks.
  double worst_key(const PagedMemory& memory, const PagedMemory& twin, int64_t tokens) const {
    const bool transformed = memory.spec().find("rotate=hadamard") != std::string::npos;
    double worst = 0;
    std::vector<float> k(64), v(64), want(64), same(64);
    for (int64_t layer = 0; layer < shape_.layers(); ++layer) {
      const StepRows raw = testing::rows_at(shape_, layer, 0, tokens);
      for (int64_t head = 0; head < shape_.kv_heads; ++head) {
        const PagedRows& rows = memory.rows(layer, head);
        EXPECT_EQ(rows.rows(), twin.rows(layer, head).rows());
        for (int64_t row = 0; row < rows.rows(); ++row) {
          EXPECT_EQ(rows.position(row), memory.length() - rows.rows() + row);
          rows.read(row, k.data(), v.data());
          if (transformed) hadamard(k.data(), 1, 64, k.data());
          twin.rows(layer, head).read(row, nullptr, same.data());
          EXPECT_EQ(v, same);
          turns_.turn(layer, raw_key(raw, twin.rows(layer, head).position(row), head),
                      rows.position(row), want.data());
          for (size_t i = 0; i < want.size(); ++i)
            worst = std::max(worst, std::abs(double{k[i]} - want[i]));
        }
      }
    }
    return worst;
  }

  MemoryShape shape_ = shape_of_context(4096);
  RotaryTurns turns_{shape_.rotary, 64, kTokens};
  ThreadPool pool_{2};
};

TEST_F(Rerotation, KeptKeysAreTheirOwnAtConsecutivePositions) {
  shape_ = shape_of_context(300);  // the text takes the last position
  // Keys are normal: below 6. Half a step of their encoding for each time they are stored, and of
  // float32 arithmetic what angles of up to 300 radians lose.
  const std::pair<const char*, double> formats[] = {{"full(dtype=f32)", 6 * 0x1p-17},
                                                    {"full", 2 * 6 * 0x1p-11},
                                                    {"full(dtype=bf16)", 2 * 6 * 0x1p-8},
                                                    {"q8(rotate=hadamard)", 0.1},
                                                    {"q8", 0.1}};
  // Every format with one policy, every policy with one format.
  const std::vector<std::pair<const char*, std::vector<size_t>>> cases = {
      {"streaming(rows=100)", {0, 1, 2, 3, 4}},
      {"snapkv(rows=120,window=8)", {1}},
      {"random(rows=70)", {3}},
      {"cake(budget=0.3,window=8)", {0}},
      {"h2o(rows=100)", {1}},
      {"tova(rows=64)", {4}},
      {"knorm(budget=0.4)", {2}},
      {"pyramidkv(budget=0.3,window=8)", {1}}};
  for (const auto& [policy, chosen] : cases) {
    for (const size_t i : chosen) {
      const std::string spec = std::string(policy) + "+" + formats[i].first;
      const auto memory = build(spec + "+rerotate"), twin = build(spec);
      read(*memory, 0, 300);
      read(*twin, 0, 300);
      EXPECT_EQ(memory->length() + memory->filtered_tokens(), 300);
      EXPECT_GT(memory->filtered_tokens(), 0);
      EXPECT_LE(worst_key(paged(*memory), paged(*twin), 300), formats[i].second) << spec;
    }
  }
}

// Keys of a text of two tokens after another: those of `age` texts ago were stored again so often.
// Roundings are independent of each other, so that errors grow with the root of their number.
TEST_F(Rerotation, ErrorsGrowNoFasterThanTheRootOfTimesStored) {
  for (const char* format : {"full", "full(dtype=bf16)"}) {
    const std::string spec = std::string("streaming(rows=140)+") + format;
    const auto memory = build(spec + "+rerotate"), twin = build(spec);
    int64_t seen = 160;
    for (SequenceMemory* each : {memory.get(), twin.get()}) {
      read(*each, 0, 160);
      for (seen = 160; seen < 290; seen += 2) read(*each, seen, 2);
    }
    const StepRows raw = testing::rows_at(shape_, 0, 0, seen);
    const auto error = [&](int64_t first_age, int64_t last_age) {  // root mean square
      double sum = 0;
      std::vector<float> k(64), want(64);
      const PagedRows &rows = paged(*memory).rows(0, 0), &same = paged(*twin).rows(0, 0);
      const int64_t begin = rows.rows() - 2 * (last_age + 1), end = rows.rows() - 2 * first_age;
      for (int64_t row = begin; row < end; ++row) {
        rows.read(row, k.data(), nullptr);
        turns_.turn(0, raw_key(raw, same.position(row), 0), rows.position(row), want.data());
        for (size_t i = 0; i < want.size(); ++i) sum += std::pow(double{k[i]} - want[i], 2);
      }
      return std::sqrt(sum / static_cast<double>(64 * (end - begin)));
    };
    const double young = error(0, 7), old = error(56, 63);
    EXPECT_GT(old, young) << format;
    // Stored 2 to 9 times and 58 to 65 times. Twice that: sixteen rows are a sample.
    EXPECT_LE(old, 2 * std::sqrt(61.5 / 5.5) * young) << format;
  }
}

// Every storing adds an error of its own: rows that stay for good must not be quantised at every text.
TEST_F(Rerotation, QuantisedRowsCloseRanksOnlyWherePositionsRunOut) {
  shape_ = shape_of_context(512);
  const auto times_closed = [&](const std::string& spec) {
    const auto memory = build(spec);
    read(*memory, 0, 200);
    int64_t times = 0;
    for (int64_t seen = 200; seen < 1400; seen += 2) {
      const int64_t before = memory->filtered_tokens();
      read(*memory, seen, 2);
      times += memory->filtered_tokens() > before;
      EXPECT_LE(memory->length(), 512) << spec;
    }
    return times;
  };
  // Layer 1 holds its window and up to a page of older rows: ranks close down to 154 at most.
  for (const char* spec : {"h2o(rows=60)+q4+rerotate", "cake(rows=60,window=8)+q8+rerotate"})
    EXPECT_LE(times_closed(spec), 1 + 1200 / (512 - 154)) << spec;
  EXPECT_GT(times_closed("h2o(rows=60)+rerotate"), 15);
}

TEST_F(Rerotation, AnswersAreThoseOfTheKeptRowsAtTheirNewPositions) {
  const auto memory = build("snapkv(rows=120,window=8)+full(dtype=f32)+rerotate");
  const auto twin = build("snapkv(rows=120,window=8)+full(dtype=f32)");
  read(*memory, 0, 300);
  read(*twin, 0, 300);
  const int64_t position = memory->length();
  // Heads of layer 2 have as many rows as there are positions; its attention in float64.
  const int64_t layer = 2, ratio = shape_.q_heads / shape_.kv_heads;
  StepRows raw = testing::rows_at(shape_, layer, 0, 301);
  std::vector<std::vector<int32_t>> kept(2);
  for (int64_t head = 0; head < 2; ++head) {
    const PagedRows& rows = paged(*twin).rows(layer, head);
    for (int64_t row = 0; row < rows.rows(); ++row)
      kept[static_cast<size_t>(head)].push_back(rows.position(row));
    kept[static_cast<size_t>(head)].push_back(300);
  }
  const std::vector<float> answers = read(*memory, 300, 1);
  std::vector<float> q(64), k(64);
  for (int64_t h = 0; h < shape_.q_heads; ++h) {
    const std::vector<int32_t>& tokens = kept[static_cast<size_t>(h / ratio)];
    turns_.turn(layer, raw.q.data() + (300 * shape_.q_heads + h) * 64, position, q.data());
    double sum = 0;
    std::vector<double> want(64, 0.0);
    for (size_t row = 0; row < tokens.size(); ++row) {
      const int64_t at = position + 1 - std::ssize(tokens) + static_cast<int64_t>(row);
      turns_.turn(layer, raw_key(raw, tokens[row], h / ratio), at, k.data());
      double score = 0;
      for (size_t i = 0; i < 64; ++i) score += double{q[i]} * k[i];
      const double weight = std::exp(score * testing::kStepScale);
      sum += weight;
      const float* v = raw.v.data() + (tokens[row] * shape_.kv_heads + h / ratio) * 64;
      for (size_t i = 0; i < 64; ++i) want[i] += weight * v[i];
    }
    for (size_t i = 0; i < 64; ++i) {
      const size_t at = static_cast<size_t>((layer * shape_.q_heads + h) * 64) + i;
      EXPECT_NEAR(answers[at], want[i] / sum, 2e-5) << "head " << h;
    }
  }
}

TEST_F(Rerotation, ChangesNothingWhereNothingGoes) {
  for (const char* spec : {"snapkv(budget=1,window=8)", "full", "cake(budget=1,window=8)", "q8"}) {
    const auto memory = build(std::string(spec) + "+rerotate"), twin = build(spec);
    EXPECT_EQ(read(*memory, 0, 200), read(*twin, 0, 200));
    EXPECT_EQ(read(*memory, 200, 1), read(*twin, 200, 1));
    EXPECT_EQ(memory->filtered_tokens(), 0);
  }
}

TEST_F(Rerotation, PartsOfATextEqualTheWhole) {
  for (const char* policy : {"streaming(rows=90)", "cake(budget=0.4,window=8)", "h2o(rows=100)"}) {
    const std::string spec = std::string(policy) + "+full(dtype=f32)+rerotate";
    const auto whole = build(spec), parts = build(spec);
    read(*whole, 0, 300);
    read(*parts, 0, 100, 200);
    EXPECT_EQ(parts->length(), 100);
    read(*parts, 100, 150, 50);
    read(*parts, 250, 50);
    EXPECT_EQ(parts->length(), whole->length());
    const auto one = read(*whole, 300, 1), other = read(*parts, 300, 1);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other[i], 1e-5) << spec;
  }
}

TEST_F(Rerotation, GoesOnPastTheContext) {
  shape_ = shape_of_context(256);
  for (const char* policy : {"streaming(rows=60)", "tova(rows=60)", "h2o(rows=60)"}) {
    const auto bound = build(policy), memory = build(std::string(policy) + "+rerotate");
    EXPECT_TRUE(memory->capabilities().beyond_context);
    read(*bound, 0, 250);
    read(*memory, 0, 250);
    EXPECT_THAT(bound->plan(10, 0).refusal, HasSubstr("longer than the model's context of 256"));
    int64_t seen = 250;
    for (const int64_t tokens : {100, 1, 100}) {
      read(*memory, seen, tokens);
      seen += tokens;
    }
    for (; seen < 900; ++seen) {
      read(*memory, seen, 1);
      ASSERT_LE(memory->length(), 256);
      ASSERT_EQ(memory->length() + memory->filtered_tokens(), seen + 1);
      const PagedRows& rows = paged(*memory).rows(0, 1);
      ASSERT_EQ(rows.rows(), 60) << policy;
      ASSERT_EQ(rows.position(59), memory->length() - 1);
    }
    // One text longer than the context has no positions to be read at.
    EXPECT_THAT(memory->plan(257, 0).refusal, HasSubstr("longer than the model's context"));
  }
}

TEST_F(Rerotation, ATextThatOnlyFitsWithoutGapsClosesThemFirst) {
  shape_ = shape_of_context(512);
  shape_.windows[1] = 40;
  for (const char* spec :
       {"tova(rows=60)+full(dtype=f32)+rerotate", "h2o(rows=60)+full(dtype=f32)+rerotate",
        "cake(rows=60,window=8)+full(dtype=f32)+rerotate"}) {
    const auto memory = build(spec);
    read(*memory, 0, 100);
    for (int64_t token = 100; token < 150; ++token) read(*memory, token, 1);
    const int64_t length = memory->length(), rows = most_rows(*memory);
    ASSERT_GT(length, rows);  // gaps, but not yet a quarter of the context
    const int64_t fits = 512 - rows;
    EXPECT_THAT(memory->plan(fits + 1, 0).refusal, HasSubstr("longer than the model's context"));
    EXPECT_EQ(memory->plan(512 - length, 0).first_position, length);
    EXPECT_EQ(memory->plan(513 - length, 0).first_position, rows);
    EXPECT_EQ(memory->plan(100, fits - 100).first_position, rows);
    EXPECT_EQ(memory->length(), length);  // plans change nothing

    // At once and in parts, which are judged together.
    const auto parts = memory->fork();
    read(*memory, 150, fits);
    read(*parts, 150, 100, fits - 100);
    EXPECT_EQ(parts->length(), rows + 100);
    read(*parts, 250, fits - 100);
    EXPECT_EQ(memory->length() + memory->filtered_tokens(), 150 + fits);
    EXPECT_EQ(parts->length(), memory->length());
    const auto one = read(*memory, 150 + fits, 1), other = read(*parts, 150 + fits, 1);
    for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other[i], 1e-5) << spec;
  }
}

TEST_F(Rerotation, AStepThatIsAbortedLeavesTheRows) {
  shape_ = shape_of_context(256);
  shape_.windows[1] = 40;
  const auto memory = build("streaming(rows=60)+full(dtype=f32)+rerotate"),
             twin = build("streaming(rows=60)+full(dtype=f32)+rerotate");
  for (SequenceMemory* each : {memory.get(), twin.get()}) {
    read(*each, 0, 100);
    for (int64_t token = 100; token < 150; ++token) read(*each, token, 1);
  }
  memory->begin(memory->plan(256 - most_rows(*memory), 0));  // closes ranks
  EXPECT_EQ(memory->length(), most_rows(*memory));
  memory->abort();
  EXPECT_EQ(memory->length() + memory->filtered_tokens(), 150);
  const auto one = read(*memory, 150, 1), other = read(*twin, 150, 1);
  for (size_t i = 0; i < one.size(); ++i) EXPECT_NEAR(one[i], other[i], 1e-5);
}

TEST_F(Rerotation, SinksOfAWindowStayInFront) {
  shape_ = shape_of_context(512);
  const auto memory = build("sliding(window=20,sink=4)+full(dtype=f32)+rerotate");
  for (int64_t token = 0; token < kTokens; token += 50) {
    read(*memory, token, 50);
    const PagedRows& rows = paged(*memory).rows(0, 0);
    for (int64_t row = 0; row < 4; ++row) ASSERT_EQ(rows.position(row), row) << token;
    ASSERT_EQ(rows.position(rows.rows() - 1), memory->length() - 1);
    ASSERT_LT(memory->length(), 512);
  }
  // The sink's keys are still the first tokens'.
  const StepRows raw = testing::rows_at(shape_, 0, 0, 4);
  std::vector<float> k(64), want(64);
  for (int64_t row = 0; row < 4; ++row) {
    paged(*memory).rows(0, 0).read(row, k.data(), nullptr);
    turns_.turn(0, raw_key(raw, row, 0), row, want.data());
    for (size_t i = 0; i < 64; ++i) EXPECT_NEAR(k[i], want[i], 1e-4);
  }
}

TEST_F(Rerotation, ASavedMemoryGoesOnBitForBit) {
  shape_ = shape_of_context(310);
  const testing::TemporaryFolder folder;
  const MemoryIdentity identity{"model", "tokenizer", "template"};
  for (const char* spec : {"h2o(rows=80)+rerotate", "cake(budget=0.3,window=8)+q8+rerotate"}) {
    const auto memory = build(spec);
    read(*memory, 0, 300);
    for (int64_t token = 300; token < 320; ++token) read(*memory, token, 1);
    EXPECT_GT(memory->filtered_tokens(), 0);
    std::vector<int32_t> tokens(320);
    std::iota(tokens.begin(), tokens.end(), 0);
    const std::string path = folder / "memory.safetensors";
    save_memory(path, *memory, tokens, identity);
    const LoadedMemory loaded = load_memory(path, MemoryRegistry::builtin(), shape_, identity);
    EXPECT_EQ(loaded.tokens, tokens);
    EXPECT_EQ(loaded.memory->length(), memory->length());
    EXPECT_EQ(loaded.memory->filtered_tokens(), memory->filtered_tokens());
    for (int64_t token = 320; token < 360; ++token)
      EXPECT_EQ(read(*loaded.memory, token, 1), read(*memory, token, 1)) << spec;
    EXPECT_EQ(read(*loaded.memory, 360, 90), read(*memory, 360, 90)) << spec;
  }
}

TEST_F(Rerotation, AForkKeepsItsOwnPositions) {
  const auto memory = build("streaming(rows=100)+rerotate"),
             twin = build("streaming(rows=100)+rerotate");
  for (SequenceMemory* each : {memory.get(), twin.get()}) read(*each, 0, 300);
  const auto fork = memory->fork();
  read(*fork, 300, 200);
  EXPECT_EQ(fork->length() + fork->filtered_tokens(), 500);
  EXPECT_EQ(read(*memory, 300, 1), read(*twin, 300, 1));
}

TEST_F(Rerotation, RefusesWhatCannotBeJoined) {
  EXPECT_THAT(error_of([&] { build("gemfilter(layer=0)+rerotate"); }),
              HasSubstr("have new positions already"));
  EXPECT_THAT(error_of([&] { build("cake(order=score)+rerotate"); }),
              HasSubstr("remembers rows by their positions"));
  EXPECT_THAT(error_of([&] { build("alisa+rerotate"); }), HasSubstr("cannot be joined"));
  const auto memory = build("streaming(rows=100)+rerotate");
  read(*memory, 0, 300);
  EXPECT_THAT(memory->cannot_trim_to(50), HasSubstr("closed ranks"));
  memory->trim(0);
  EXPECT_EQ(memory->filtered_tokens(), 0);
  EXPECT_EQ(memory->length(), 0);
}

}  // namespace
}  // namespace mneme
