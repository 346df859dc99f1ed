// Every golden case of papers/01 that holds queries, keys and values: batched or packed, results
// and gradients. (Cases with a cache: flash_decode_test.cc.)
#include <gtest/gtest.h>

#include "mneme/kernels/flash_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

using testing::FlashAnswer;
using testing::FlashLayout;
using testing::FlashProblem;
using testing::GoldenCase;
using testing::GoldenFile;

// What the problem points to.
struct Owned {
  FlashProblem problem;
  std::vector<float> slopes;
  std::vector<int32_t> cu_q, cu_k;
};

std::vector<int32_t> narrow(const std::vector<int64_t>& wide) { return {wide.begin(), wide.end()}; }

void read(const GoldenCase& golden, Owned& owned) {
  FlashProblem& p = owned.problem;
  FlashAttention& c = p.config;
  const auto& config = golden.config();
  p.q = golden.floats("in.q");
  p.k = golden.floats("in.k");
  p.v = golden.floats("in.v");
  p.dout = golden.floats("in.dout");
  const std::vector<int64_t>&q = golden.shape("in.q"), &k = golden.shape("in.k");
  const bool packed = golden.has("in.cu_seqlens_q");
  c.head_dim = q.back();
  c.q_heads = q[q.size() - 2];
  c.kv_heads = k[k.size() - 2];
  c.q_len = q[q.size() - 3];
  c.k_len = k[k.size() - 3];
  if (packed) {
    owned.cu_q = narrow(golden.integers("in.cu_seqlens_q"));
    owned.cu_k = narrow(golden.integers("in.cu_seqlens_k"));
    c.cu_q = owned.cu_q.data();
    c.cu_k = owned.cu_k.data();
    c.batch = static_cast<int64_t>(owned.cu_q.size()) - 1;
  } else {
    c.batch = q[0];
  }
  c.scale = config["softmax_scale"];
  c.causal = config["causal"];
  if (config.contains("window")) {
    c.window_left = config["window"][0];
    c.window_right = config["window"][1];
  }
  c.softcap = config.value("softcap", 0.0);
  if (golden.has("in.alibi_slopes")) {
    owned.slopes = golden.floats("in.alibi_slopes");
    c.alibi_slopes = owned.slopes.data();
    c.alibi_per_batch = golden.shape("in.alibi_slopes").size() == 2;
  }
}

void expect_part(const GoldenCase& golden, const std::string& part,
                 const std::vector<double>& got) {
  testing::expect_close({got.begin(), got.end()}, golden.floats(part), golden.abs_tolerance(),
                        golden.rel_tolerance(), golden.name() + " " + part);
}

// Rows that see nothing have lse = +infinity here and 0 in the file.
std::vector<double> with_zeros(std::vector<double> lse) {
  for (double& value : lse) {
    if (std::isinf(value)) value = 0;
  }
  return lse;
}

void expect_empty_rows(const GoldenCase& golden, const std::vector<double>& lse) {
  if (!golden.has("out.row_is_empty")) return;
  const std::vector<int64_t> empty = golden.integers("out.row_is_empty");
  for (size_t i = 0; i < lse.size(); ++i) {
    EXPECT_EQ(std::isinf(lse[i]), empty[i % empty.size()] != 0) << golden.name() << " row " << i;
  }
}

TEST(GoldenFlashAttention, EveryCase) {
  const auto file = GoldenFile::open("01-flash-attention-2");
  if (!file) GTEST_SKIP();
  ThreadPool pool(2);
  int seen = 0;
  for (const GoldenCase& golden : file->cases()) {
    if (!golden.has("in.q") || !golden.has("in.k") || !golden.has("in.v")) continue;
    SCOPED_TRACE(golden.name());
    ++seen;
    Owned owned;
    read(golden, owned);
    for_each_target([&] {
      for (const DType dtype : {DType::kF32, DType::kF64}) {
        owned.problem.config.dtype = dtype;
        const FlashAnswer got = testing::run_flash(owned.problem, pool, true, FlashLayout::kPadded);
        expect_part(golden, "out.o", got.o);
        expect_part(golden, "out.lse", with_zeros(got.lse));
        expect_empty_rows(golden, got.lse);
        expect_part(golden, "grad.q", got.dq);
        expect_part(golden, "grad.k", got.dk);
        expect_part(golden, "grad.v", got.dv);
      }
    });
  }
  EXPECT_GT(seen, 0);
}

}  // namespace
}  // namespace mneme
