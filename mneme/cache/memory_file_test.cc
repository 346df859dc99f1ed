#include "mneme/cache/memory_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>
#include <functional>

#include "mneme/core/error.h"
#include "mneme/io/safetensors.h"
#include "tests/support/error_of.h"
#include "tests/support/memory_step.h"
#include "tests/support/temporary_folder.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;
using testing::step;

const MemoryShape kShape = {
    .q_heads = 4, .kv_heads = 2, .k_dim = 32, .v_dim = 32, .context = 1024, .windows = {0, 50}};
const MemoryIdentity kIdentity = {"model-a", "tokenizer-a", "template-a"};

std::vector<int32_t> ids(int64_t count) {
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  for (size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<int32_t>(i * 7 % 100);
  return tokens;
}

class MemoryFile : public ::testing::TestWithParam<const char*> {
 protected:
  std::string path(const char* name = "memory.safetensors") const { return folder_ / name; }
  testing::TemporaryFolder folder_;
};

INSTANTIATE_TEST_SUITE_P(Specs, MemoryFile,
                         ::testing::Values("full", "full(dtype=f32)", "full(dtype=bf16)",
                                           "q8(group=32)", "q4(group=32)",
                                           "q4(group=32,rotate=none)", "sliding(window=40,sink=3)",
                                           "sliding(window=40,sink=3)+q4(group=32)"));

TEST_P(MemoryFile, GoesOnAsIfItHadNeverBeenSaved) {
  const auto& registry = MemoryRegistry::builtin();
  for (const int64_t length : {1, 63, 64, 300}) {
    const auto memory = registry.build(GetParam(), kShape);
    step(*memory, length, 1);
    save_memory(path(), *memory, ids(length), kIdentity);
    const LoadedMemory loaded = load_memory(path(), registry, kShape, kIdentity);
    EXPECT_EQ(loaded.tokens, ids(length));
    EXPECT_EQ(loaded.memory->spec(), memory->spec());
    EXPECT_EQ(loaded.memory->resident_bytes(), memory->resident_bytes());
    for (uint64_t seed = 2; seed < 5; ++seed)
      EXPECT_EQ(step(*loaded.memory, 30, seed), step(*memory, 30, seed)) << length;
  }
}

TEST_P(MemoryFile, AnEmptyMemoryComesBackEmpty) {
  const auto& registry = MemoryRegistry::builtin();
  save_memory(path(), *registry.build(GetParam(), kShape), {}, kIdentity);
  EXPECT_EQ(load_memory(path(), registry, kShape, kIdentity).memory->length(), 0);
}

TEST_F(MemoryFile, RefusesAnotherModelTokenizerTemplateOrShape) {
  const auto& registry = MemoryRegistry::builtin();
  const auto memory = registry.build("full", kShape);
  step(*memory, 20, 1);
  save_memory(path(), *memory, ids(20), kIdentity);
  const auto message = [&](const MemoryIdentity& identity, const MemoryShape& shape) {
    return error_of([&] { load_memory(path(), registry, shape, identity); });
  };
  EXPECT_THAT(message({"model-b", "tokenizer-a", "template-a"}, kShape),
              HasSubstr("another model (model-a, this one is model-b)"));
  EXPECT_THAT(message({"model-a", "tokenizer-b", "template-a"}, kShape),
              HasSubstr("another tokenizer"));
  EXPECT_THAT(message({"model-a", "tokenizer-a", ""}, kShape), HasSubstr("another template"));
  MemoryShape other = kShape;
  other.windows = {50, 0};
  EXPECT_THAT(message(kIdentity, other), HasSubstr("another shape"));
}

TEST_F(MemoryFile, RefusesADamagedFileAtEveryByteAndEveryLength) {
  const auto& registry = MemoryRegistry::builtin();
  const MemoryShape shape = {
      .q_heads = 4, .kv_heads = 2, .k_dim = 32, .v_dim = 32, .context = 64, .windows = {0}};
  const auto memory = registry.build("q4(group=32)", shape);
  step(*memory, 2, 1);
  save_memory(path(), *memory, ids(2), kIdentity);
  const std::string good = testing::read_file(path());
  const std::string bad = path("bad.safetensors");
  const auto refused = [&](const std::string& content) {
    testing::write_file(bad, content);
    try {
      const LoadedMemory loaded = load_memory(bad, registry, shape, kIdentity);
      return false;
    } catch (const Error&) {
      return true;
    }
  };
  for (size_t length = 0; length < good.size(); ++length)
    ASSERT_TRUE(refused(good.substr(0, length))) << length;
  for (size_t byte = 0; byte < good.size(); ++byte) {
    std::string flipped = good;
    flipped[byte] = static_cast<char>(flipped[byte] ^ 0x21);
    ASSERT_TRUE(refused(flipped)) << "byte " << byte << " of " << good.size();
  }
}

// A state that passes every check of the container, with one thing wrong in it.
TEST_F(MemoryFile, RefusesStatesThatDoNotFitTogether) {
  const auto& registry = MemoryRegistry::builtin();
  const auto memory = registry.build("full", kShape);
  step(*memory, 70, 1);
  struct State final : TensorSource {
    std::vector<StateTensor> held;
    std::vector<TensorView> views;
    std::string name = "state";
    void refresh() {
      views.clear();
      for (const StateTensor& t : held)
        views.push_back(
            {t.name, t.dtype, t.shape, t.bytes.data(), static_cast<int64_t>(t.bytes.size())});
    }
    StateTensor& at(const std::string& wanted) {
      return *std::ranges::find(held, wanted, &StateTensor::name);
    }
    const TensorView* find(std::string_view wanted) const override {
      const auto found = std::ranges::find(views, wanted, &TensorView::name);
      return found == views.end() ? nullptr : &*found;
    }
    const std::vector<TensorView>& tensors() const override { return views; }
    const std::string& origin() const override { return name; }
  };
  const auto message = [&](const std::function<void(State&)>& damage, int64_t length = 70) {
    State state;
    state.held = memory->save_state();
    damage(state);
    state.refresh();
    const auto fresh = registry.build("full", kShape);
    const std::string text = error_of([&] { fresh->load_state(state, length); });
    EXPECT_EQ(fresh->length(), 0);
    EXPECT_EQ(fresh->resident_bytes(), 0);
    return text;
  };
  const auto set_run = [](const char* tensor, int32_t first, int32_t count) {
    return [=](State& state) {
      const int32_t run[2] = {first, count};
      std::memcpy(state.at(tensor).bytes.data(), run, sizeof run);
    };
  };
  EXPECT_THAT(message([](State& s) { s.at("L1_H0_rows").name = "other"; }),
              HasSubstr("L1_H0_rows is missing"));
  EXPECT_THAT(message([](State& s) { s.at("L0_H1_rows").dtype = DType::kI8; }),
              HasSubstr("L0_H1_rows is I8"));
  EXPECT_THAT(message([](State& s) {
                s.at("L0_H0_rows").shape = {35, 256};
              }),
              HasSubstr("expected U8 [n, 128]"));
  EXPECT_THAT(message(set_run("L0_H0_runs", 0, 71)), HasSubstr("does not fit 70 tokens"));
  EXPECT_THAT(message(set_run("L0_H0_runs", 1, 70)), HasSubstr("does not fit 70 tokens"));
  EXPECT_THAT(message(set_run("L0_H0_runs", -1, 70)), HasSubstr("(-1, 70)"));
  EXPECT_THAT(message(set_run("L0_H0_runs", 0, 0)), HasSubstr("does not fit"));
  EXPECT_THAT(message(set_run("L0_H0_runs", 0, 69)), HasSubstr("names 69 positions for 70 rows"));
  EXPECT_THAT(message([](State&) {}, 2000),
              HasSubstr("2000 tokens do not fit the context of 1024"));
  EXPECT_THAT(message([](State&) {}, -1), HasSubstr("-1 tokens"));
  EXPECT_THAT(message([](State&) {}, 80), HasSubstr("does not hold position 70"));
  const auto turned = registry.build("full+rerotate", kShape);
  step(*turned, 70, 1);
  for (const int64_t positions : {int64_t{-1}, INT64_MAX}) {
    State state;
    state.held = turned->save_state();
    std::memcpy(state.at("renumbered").bytes.data(), &positions, sizeof positions);
    state.refresh();
    EXPECT_THAT(error_of([&] { turned->load_state(state, 70); }), HasSubstr("renumbered"));
    EXPECT_EQ(turned->filtered_tokens(), 0);
  }
}

TEST_F(MemoryFile, SavingChecksItsArguments) {
  const auto memory = MemoryRegistry::builtin().build("full", kShape);
  EXPECT_THAT(error_of([&] { save_memory(path(), *memory, ids(3), kIdentity); }),
              HasSubstr("has seen 0 tokens, 3 are given"));
  EXPECT_THAT(error_of([&] { save_memory(folder_ / "no/such/folder", *memory, {}, kIdentity); }),
              HasSubstr("/no/such/folder"));
  EXPECT_FALSE(std::filesystem::exists(path()));
}

}  // namespace
}  // namespace mneme
