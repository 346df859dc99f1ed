// Our flash attention against torch's scaled_dot_product_attention in one process: SmolLM2's shape
// (batch 1, 9 query heads over 3 KV heads of 64, causal), the same number of threads, runs taken in
// turns; a ratio is the median over the pairs. Torch gets keys and values already repeated for its
// heads, and its own layout [B, H, S, D]. Results are compared before a figure is printed.
// MNEME_BENCH_TYPE=f32 or bf16 leaves the other type out.
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd.h>

#include "bench/bench.h"
#include "mneme/attention/flash_attention.h"

namespace mneme::bench {
namespace {

using at::Tensor;

void check(const Tensor& ours, const Tensor& theirs, const char* what) {
  const double apart = (ours.to(at::kFloat) - theirs.to(at::kFloat)).abs().max().item<double>();
  const double size = theirs.to(at::kFloat).abs().max().item<double>();
  const double unit = theirs.scalar_type() == at::kFloat ? 1e-5 : 3e-2;
  MNEME_CHECK(apart <= unit * std::max(1.0, size), "bench_torch_attention: ", what, " differs by ",
              apart);
}

void measure(at::ScalarType type, int64_t tokens, Report& report) {
  at::manual_seed(1);
  const auto normal = [&](int64_t heads) {
    return at::randn({1, tokens, heads, 64}).to(type).set_requires_grad(true);
  };
  const Tensor q = normal(9), k = normal(3), v = normal(3),
               dout = at::randn({1, tokens, 9, 64}).to(type);
  const auto theirs = [](const Tensor& x, int64_t repeats) {
    return x.detach()
        .transpose(1, 2)
        .repeat_interleave(repeats, 1)
        .contiguous()
        .set_requires_grad(true);
  };
  const Tensor tq = theirs(q, 1), tk = theirs(k, 3), tv = theirs(v, 3),
               tdout = dout.transpose(1, 2).contiguous();
  const auto run_ours = [&] { return std::get<0>(flash_attention(q, k, v, {.causal = true})); };
  const auto run_torch = [&] {
    return at::scaled_dot_product_attention(tq, tk, tv, {}, 0.0, true);
  };
  const Tensor o = run_ours(), to = run_torch();
  check(o, to.transpose(1, 2), "o");
  const auto back = [&](const Tensor& result, const std::vector<Tensor>& inputs,
                        const Tensor& gradient) {
    return torch::autograd::grad({result}, inputs, {gradient}, /*retain_graph=*/true);
  };
  const auto ours = back(o, {q, k, v}, dout), torchs = back(to, {tq, tk, tv}, tdout);
  check(ours[0], torchs[0].transpose(1, 2), "dq");
  for (const size_t i : {1, 2}) {
    check(ours[i], torchs[i].view({1, 3, 3, tokens, 64}).sum(2).transpose(1, 2),
          i == 1 ? "dk" : "dv");
  }
  const auto row = [&](const char* what, const Race& pairs) {
    report.row({{"what", what},
                {"tokens", tokens},
                {"type", c10::toString(type)},
                {"ours_ms", pairs.ours_s * 1e3},
                {"torch_ms", pairs.theirs_s * 1e3},
                {"times_torch", pairs.ratio}});
  };
  {
    const at::NoGradGuard no_grad;
    row("forward", race(7, run_ours, run_torch));
  }
  row("backward", race(
                      7,
                      [&] {
                        back(o, {q, k, v}, dout);
                      },
                      [&] {
                        back(to, {tq, tk, tv}, tdout);
                      }));
}

void run(Report& report) {
  at::set_num_threads(report.threads());
  const char* asked = std::getenv("MNEME_BENCH_TYPE");
  const std::string only = asked == nullptr ? "" : asked;
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16}) {
    if (only == (type == at::kFloat ? "bf16" : "f32")) continue;
    for (const int64_t tokens : {512, 2048, 8192}) measure(type, tokens, report);
  }
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("torch_attention", argc, argv, mneme::bench::run);
}
