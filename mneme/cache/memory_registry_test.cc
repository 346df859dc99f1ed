#include "mneme/cache/memory_registry.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "mneme/core/error.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

const MemoryShape kShape = {
    .q_heads = 2, .kv_heads = 1, .k_dim = 64, .v_dim = 64, .context = 1024, .windows = {0, 0}};

std::string refusal(const std::string& spec, const MemoryShape& shape = kShape) {
  return error_of([&] { MemoryRegistry::builtin().build(spec, shape); });
}

TEST(MemoryRegistry, BuildsEveryMemoryWithItsDefaults) {
  const auto& registry = MemoryRegistry::builtin();
  std::set<std::string> names;
  for (const MemoryEntry& entry : registry.entries()) {
    EXPECT_TRUE(names.insert(entry.name).second);
    const auto memory = registry.build(entry.name, kShape);
    EXPECT_EQ(memory->spec(), registry.canonical(entry.name));
    EXPECT_EQ(registry.canonical(memory->spec()), memory->spec());
    EXPECT_FALSE(entry.summary.empty() || entry.paper.empty() || entry.state.empty() ||
                 entry.source.empty())
        << entry.name;
  }
  EXPECT_THAT(names, ::testing::IsSupersetOf({"full", "q8", "q4", "sliding"}));
}

TEST(MemoryRegistry, JoinsAFormatAndAPolicyInEitherOrder) {
  const auto& registry = MemoryRegistry::builtin();
  const auto a = registry.build("sliding(window=100)+q4", kShape);
  EXPECT_EQ(a->spec(), "sliding(window=100,sink=4)+q4(group=64,rotate=hadamard,fit=squares)");
  EXPECT_EQ(registry.build("q4+sliding(window=100)", kShape)->predict_bytes(500),
            a->predict_bytes(500));
  EXPECT_FALSE(a->capabilities().exact);
  EXPECT_TRUE(a->capabilities().beyond_context);
  EXPECT_TRUE(registry.build("q4", kShape)->capabilities().exact);
}

TEST(MemoryRegistry, RefusalsNameThePositionTheNearestNameAndTheList) {
  EXPECT_THAT(refusal("slidng(window=4)"),
              HasSubstr("character 1: no memory is called 'slidng'; did you mean 'sliding'? Known: "
                        "full, q8, q4, sliding"));
  EXPECT_THAT(refusal("sliding+hopfield"),
              HasSubstr("character 9: no memory is called 'hopfield' Known:"));
  EXPECT_THAT(refusal("sliding(windw=4)"),
              HasSubstr("character 9: 'sliding' has no parameter 'windw'; did you mean 'window'? "
                        "It takes: window, sink"));
  EXPECT_THAT(refusal("sliding(window=-1)"), HasSubstr("'window' must be an integer from 1 to"));
  EXPECT_THAT(refusal("sliding(window=1.5)"), HasSubstr("got '1.5'"));
  EXPECT_THAT(refusal("sliding(window=99999999999999999999)"),
              HasSubstr("'window' must be an integer"));
  EXPECT_THAT(refusal("full(dtype=f8)"),
              HasSubstr("'dtype' must be one of f32, f16, bf16; got 'f8'"));
  EXPECT_THAT(refusal("full+q8"), HasSubstr("character 6: a second row format ('q8')"));
  EXPECT_THAT(refusal("q4("), HasSubstr("expected a parameter name"));
}

TEST(MemoryRegistry, AFormatThatDoesNotFitTheHeadSizeIsRefused) {
  MemoryShape shape = kShape;
  shape.k_dim = 80;
  EXPECT_THAT(refusal("q4(group=64)", shape), HasSubstr("80"));
  shape = kShape;
  shape.q_heads = 3;
  shape.kv_heads = 2;
  EXPECT_THAT(refusal("full", shape),
              HasSubstr("query heads (3) must be a multiple of KV heads (2)"));
}

TEST(MemoryRegistry, RefusesADoubleNameAndADefaultOutOfRange) {
  MemoryRegistry registry;
  const MemoryEntry good{.name = "one",
                         .kind = "row policy",
                         .parameters = {{.name = "n", .fallback = "3", .min = 1, .max = 5}}};
  registry.add(good);
  EXPECT_THAT(error_of([&] { registry.add(good); }), HasSubstr("'one' is there already"));
  MemoryEntry bad = good;
  bad.name = "two";
  bad.parameters[0].fallback = "9";
  EXPECT_THAT(error_of([&] { registry.add(bad); }), HasSubstr("default of two"));
}

}  // namespace
}  // namespace mneme
