// FlashAttention of SmolLM2's shape (batch 1, 9 query heads over 3 KV heads of 64, causal) beside
// the machine's rate of multiply-adds, right then (of_fma_rate) and at its best in the run
// (of_fma_peak), forward and backward, with the scratch they took. Every figure stands behind a
// comparison with the definition in float64. Against torch: bench/torch_attention.cc.
#include "bench/bench.h"
#include "mneme/kernels/flash_testing.h"

namespace mneme::bench {
namespace {

using testing::FlashAnswer;
using testing::FlashProblem;
using testing::FlashTensor;

FlashAttention smollm2(DType dtype, int64_t tokens) {
  FlashAttention c;
  c.dtype = dtype;
  c.batch = 1;
  c.q_len = c.k_len = tokens;
  c.q_heads = 9;
  c.kv_heads = 3;
  c.head_dim = 64;
  c.scale = 0.125;
  c.causal = true;
  return c;
}

// Throws unless ours is right where the definition is quick.
void check(DType dtype, ThreadPool& pool) {
  const FlashProblem problem = testing::random_problem(smollm2(dtype, 200), 1);
  const FlashAnswer got = testing::run_flash(problem, pool, true);
  const FlashAnswer want = testing::exact_flash(problem), plain = testing::plain_flash(problem);
  const auto expect = [&](const char* name, auto part, double times) {
    const double error = testing::largest_error(got.*part, want.*part);
    const double allowed = times * testing::largest_error(plain.*part, want.*part) + 1e-6;
    MNEME_CHECK(error <= allowed, "bench_flash_attention: ", dtype_name(dtype), " ", name,
                " errs by ", error, ", plain code by a ", times, "th of ", allowed);
  };
  expect("o", &FlashAnswer::o, 2);
  expect("dq", &FlashAnswer::dq, 3);
  expect("dk", &FlashAnswer::dk, 3);
  expect("dv", &FlashAnswer::dv, 3);
}

void measure(DType dtype, int64_t tokens, ThreadPool& pool, Report& report) {
  const FlashProblem p = testing::random_problem(smollm2(dtype, tokens), 2);
  const FlashAttention& c = p.config;
  const auto tensor = [&](int64_t heads, auto&&... values) {
    return FlashTensor(dtype, testing::FlashLayout::kTokenMajor, 1, tokens, heads, 64, values...);
  };
  const FlashTensor q = tensor(9, p.q), k = tensor(3, p.k), v = tensor(3, p.v),
                    dout = tensor(9, p.dout);
  FlashTensor o = tensor(9), dq = tensor(9), dk = tensor(3), dv = tensor(3);
  std::vector<float> lse(static_cast<size_t>(p.lse_size()));
  AttentionScratch forward, backward;
  int64_t burst = 0;
  const auto beside_fma = [&](auto&& call) {
    return race(9, call, [&] { burst = fma_burst(pool); });
  };
  const Race there = beside_fma(
      [&] { flash_forward(c, q.view(), k.view(), v.view(), o.view(), lse.data(), forward, pool); });
  const FlashTensor& result = o;
  const Race back = beside_fma([&] {
    flash_backward(c, dout.view(), q.view(), k.view(), v.view(), result.view(), lse.data(),
                   {dq.view(), dk.view(), dv.view()}, backward, pool);
  });
  const auto n = static_cast<double>(tokens);
  const double operations = 4.0 * 64 * 9 * n * (n + 1) / 2;
  const auto row = [&](const char* what, const Race& raced, double work, int64_t scratch) {
    report.row({{"what", what},
                {"tokens", tokens},
                {"type", std::string(dtype_name(dtype))},
                {"ms", raced.ours_s * 1e3},
                {"gflops", work / raced.ours_s / 1e9},
                {"of_fma_rate", work / static_cast<double>(burst) * raced.ratio},
                {"of_fma_peak", work / raced.ours_s / 1e9 / report.limits().fma_gflops},
                {"scratch_mb", static_cast<double>(scratch) / 1e6}});
  };
  row("forward", there, operations, forward.bytes());
  row("backward", back, 2.5 * operations, backward.bytes());
}

void run(Report& report) {
  ThreadPool pool(report.threads());
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF16}) {
    check(dtype, pool);
    for (const int64_t tokens : {512, 2048, 8192}) measure(dtype, tokens, pool, report);
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("flash_attention", argc, argv, mneme::bench::run);
}
