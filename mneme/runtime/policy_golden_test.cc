// Whole greedy runs of the policies' golden cases on the model of tiny-llama-kvpolicies: tokens,
// logits, budgets and the rows that are left.
#include <gtest/gtest.h>

#include <memory>

#include "mneme/cache/alisa_memory.h"
#include "mneme/cache/memory_registry.h"
#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/cake.h"
#include "mneme/cache/policy/delta.h"
#include "mneme/cache/policy/gemfilter.h"
#include "mneme/cache/policy/hylra.h"
#include "mneme/core/error.h"
#include "mneme/models/tiny_model_testing.h"
#include "mneme/runtime/sampler.h"
#include "mneme/runtime/session.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::GoldenCase;

std::unique_ptr<DecoderModel> policy_model() {
  const auto file = testing::GoldenFile::open("tiny-llama-kvpolicies");
  return file ? testing::golden_llama(file->cases().front()) : nullptr;
}

// The run of a case: after the prompt, and after every token that was fed.
class GreedyRun {
 public:
  GreedyRun(const GoldenCase& golden, DecoderModel& model, const std::string& spec)
      : golden_(golden),
        pool_(2),
        session_(model, pool_,
                 MemoryRegistry::builtin().build(spec + "+full(dtype=f32)", model.memory_shape())) {
    const std::vector<int64_t> ids = golden.integers("in.input_ids");
    session_.append(std::vector<int32_t>(ids.begin(), ids.end()));
    keep_logits();
  }

  template <typename Memory>
  const Memory& memory_as() const {
    return dynamic_cast<const Memory&>(session_.memory());
  }
  const PagedMemory& memory() const { return memory_as<PagedMemory>(); }
  template <typename Policy>
  const Policy& policy() const {
    return dynamic_cast<const Policy&>(memory().policy());
  }

  void finish(const std::function<void()>& after_step = {}) {
    const auto steps = golden_.config()["steps"].get<int64_t>();
    std::vector<int64_t> tokens;
    for (int64_t step = 0; step < steps; ++step) {
      const int32_t token = argmax(session_.logits());
      tokens.push_back(token);
      session_.append({&token, 1});
      keep_logits();
      if (after_step) after_step();
    }
    EXPECT_EQ(tokens, golden_.integers("out.tokens")) << golden_.name();
    testing::expect_close(logits_, golden_.floats("out.logits"), golden_.abs_tolerance(),
                          golden_.rel_tolerance(), golden_.name() + "/out.logits");
  }

  // Positions held by every layer and KV head against "<name>_flat" and "<name>_offsets".
  void expect_positions(const std::string& name) const {
    std::vector<int64_t> flat, offsets = {0};
    const MemoryShape& shape = memory().shape();
    for (int64_t layer = 0; layer < shape.layers(); ++layer) {
      for (int64_t head = 0; head < shape.kv_heads; ++head) {
        const PagedRows& rows = memory().rows(layer, head);
        for (int64_t row = 0; row < rows.rows(); ++row) flat.push_back(rows.position(row));
        offsets.push_back(std::ssize(flat));
      }
    }
    EXPECT_EQ(flat, golden_.integers(name + "_flat")) << golden_.name();
    EXPECT_EQ(offsets, golden_.integers(name + "_offsets")) << golden_.name();
  }

 private:
  void keep_logits() {
    logits_.insert(logits_.end(), session_.logits().begin(), session_.logits().end());
  }

  const GoldenCase& golden_;
  ThreadPool pool_;
  Session session_;
  std::vector<float> logits_;
};

// Runs `check` on every whole run of a file; skips where file or model is missing.
template <typename Check>
void for_each_run(const std::string& stem, const Check& check) {
  const auto file = testing::GoldenFile::open(stem);
  const auto model = policy_model();
  if (!file || !model) GTEST_SKIP() << stem << ".safetensors or its model";
  int checked = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (golden.kind() != "e2e") continue;
    ++checked;
    check(golden, *model);
  }
  EXPECT_GT(checked, 0);
}

TEST(GoldenPolicyRuns, Cake) {
  for_each_run("30-cake", [](const GoldenCase& golden, DecoderModel& model) {
    const auto& c = golden.config();
    const int64_t window = c["window"], total = c["total_budget"];
    const std::string spec =
        concat("cake(rows=", total / model.config().layers + window, ",window=", window,
               ",gamma=", c["gamma"].get<double>(), ",tau1=", c["tau1"].get<double>(),
               ",tau2=", c["tau2"].get<double>(), ",pool=", c["pool_kernel"].get<int64_t>(),
               ",cascade=", c["cascading"].get<bool>() ? "on" : "off",
               ",order=", c["storage_order"].get<std::string>(), ")");
    GreedyRun run(golden, model, spec);
    const auto& cake = run.policy<Cake>();
    EXPECT_EQ(std::vector<int64_t>(cake.budgets().begin(), cake.budgets().end()),
              golden.integers("out.budgets"))
        << golden.name();
    testing::expect_close({cake.preferences().begin(), cake.preferences().end()},
                          golden.floats("out.preference"), golden.abs_tolerance(),
                          golden.rel_tolerance(), golden.name() + "/out.preference");
    run.expect_positions("out.kept_after_prefill");
    run.finish();
    run.expect_positions("out.kept_end");
  });
}

std::string joined(const std::vector<int64_t>& numbers) {
  std::string text;
  for (const int64_t number : numbers) text += (text.empty() ? "" : ":") + std::to_string(number);
  return text;
}

TEST(GoldenPolicyRuns, GemFilter) {
  for_each_run("31-gemfilter", [](const GoldenCase& golden, DecoderModel& model) {
    const auto& c = golden.config();
    GreedyRun run(golden, model,
                  concat("gemfilter(layer=", c["filter_layer"].get<int64_t>(),
                         ",keep=", c["topk"].get<int64_t>(), ")"));
    EXPECT_EQ(run.memory().length(), std::ssize(golden.integers("out.selected")));
    run.finish();
    // The choice itself, from a pass of its own, in one step and in parts.
    const auto& filter = dynamic_cast<const GemFilter&>(*run.memory().prompt_filter());
    const std::vector<int64_t> ids = golden.integers("in.input_ids");
    const std::vector<int32_t> text(ids.begin(), ids.end());
    if (filter.kept(std::ssize(text)) == std::ssize(text)) return;
    ThreadPool pool(2);
    for (const size_t part : {text.size(), size_t{7}, size_t{1}}) {
      const auto pass = filter.make_pass();
      for (size_t at = 0; at < text.size(); at += part) {
        const size_t count = std::min(part, text.size() - at);
        const SequenceStep step{std::span(text).subspan(at, count), pass.get(), Logits::kNone,
                                static_cast<int64_t>(text.size() - at - count)};
        model.forward({&step, 1}, pool);
      }
      const std::vector<int32_t> chosen = filter.chosen(*pass);
      EXPECT_EQ(std::vector<int64_t>(chosen.begin(), chosen.end()), golden.integers("out.selected"))
          << golden.name() << " in parts of " << part;
      std::vector<int64_t> new_ids;
      for (const int32_t index : chosen) new_ids.push_back(ids[static_cast<size_t>(index)]);
      EXPECT_EQ(new_ids, golden.integers("out.new_input_ids")) << golden.name();
      const std::span<const float> scores = filter.scores(*pass);
      testing::expect_close({scores.begin(), scores.end()}, golden.floats("out.scores"),
                            golden.abs_tolerance(), golden.rel_tolerance(),
                            golden.name() + "/out.scores");
    }
  });
}

// Ragged lists, one for each push.
struct Lists {
  std::vector<int64_t> flat, offsets = {0};
  void push(std::span<const int32_t> ids) {
    flat.insert(flat.end(), ids.begin(), ids.end());
    offsets.push_back(std::ssize(flat));
  }
  // Where fewer than all were to be chosen nothing was published: all there are.
  void push_or_all(std::span<const int32_t> ids, int64_t all) {
    if (!ids.empty()) return push(ids);
    for (int64_t id = 0; id < all; ++id) flat.push_back(id);
    offsets.push_back(std::ssize(flat));
  }
  void expect(const GoldenCase& golden, const std::string& name) const {
    EXPECT_EQ(flat, golden.integers(name + "_flat")) << golden.name();
    EXPECT_EQ(offsets, golden.integers(name + "_offsets")) << golden.name();
  }
};

TEST(GoldenPolicyRuns, Delta) {
  for_each_run("18-delta", [](const GoldenCase& golden, DecoderModel& model) {
    const auto& c = golden.config();
    const int64_t page = c["page"];
    GreedyRun run(golden, model,
                  concat("delta(layers=", joined(c["full_layers"].get<std::vector<int64_t>>()),
                         ",page=", page, ",pages=", c["subset_pages"].get<int64_t>(),
                         ",recent=", c["recent_pages"].get<int64_t>(), ")"));
    const auto& delta = run.policy<Delta>();
    Lists lists;
    run.finish([&] {
      for (int64_t layer = 0; layer < model.config().layers; ++layer) {
        if (delta.role(layer) == DeltaRole::kSelect)
          lists.push_or_all(delta.chosen(layer), (run.memory().length() + page - 1) / page);
      }
    });
    lists.expect(golden, "out.pages");
    EXPECT_EQ(delta.attended_rows(), golden.integers("out.attended_tokens")[0]) << golden.name();
  });
}

TEST(GoldenPolicyRuns, Hylra) {
  for_each_run("14-hylra", [](const GoldenCase& golden, DecoderModel& model) {
    const auto& c = golden.config();
    const auto plan = c["policy"].get<std::vector<int64_t>>();
    const int64_t block = c["block"];
    GreedyRun run(golden, model,
                  concat("hylra(plan=", joined(plan), ",block=", block, ",blocks=",
                         c["keep_blocks"].get<int64_t>(), ",sink=", c["sink_blocks"].get<int64_t>(),
                         ",recent=", c["recent_blocks"].get<int64_t>(), ")"));
    Lists lists;
    run.finish([&] {
      for (int64_t layer = 0; layer < std::ssize(plan); ++layer) {
        if (plan[static_cast<size_t>(layer)] == -1)
          lists.push_or_all(run.policy<Hylra>().chosen(layer),
                            (run.memory().length() + block - 1) / block);
      }
    });
    lists.expect(golden, "out.blocks");
  });
}

TEST(GoldenPolicyRuns, Alisa) {
  for_each_run("12-alisa", [](const GoldenCase& golden, DecoderModel& model) {
    const auto& c = golden.config();
    ASSERT_EQ(std::ssize(golden.integers("in.input_ids")), c["prompt_len"].get<int64_t>());
    const auto ratio = c["caching_ratio"].get<double>();
    // Where tokens lie changes nothing: all fast; some slow; some deleted.
    for (const char* tiers :
         {"", ",block=1,capacity=40,slow=same", ",block=2,capacity=40,slow=same,beta=1,p2=2"}) {
      SCOPED_TRACE(tiers);
      GreedyRun run(golden, model, concat("alisa(ratio=", ratio, tiers, ")"));
      const auto& alisa = run.memory_as<AlisaMemory>();
      Lists lists;
      run.finish([&] {
        for (int64_t layer = 0; layer < model.config().layers; ++layer)
          lists.push(alisa.read(layer));
      });
      lists.expect(golden, "out.selected");
    }
  });
}

}  // namespace
}  // namespace mneme
