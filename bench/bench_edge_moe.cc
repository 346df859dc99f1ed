// The kernels of papers/33. First the error table of the table GELU beside the usual
// approximations, against float64 on [-8, 8]; then speed: table GELU against the tanh form,
// single-pass softmax against the two-pass one, staggered attention against plain attention over
// pages.
#include <cmath>
#include <numbers>

#include "bench/bench.h"
#include "mneme/kernels/attention_testing.h"
#include "mneme/kernels/elementwise.h"
#include "mneme/kernels/gelu_table.h"
#include "mneme/kernels/reordered_attention.h"
#include "mneme/kernels/single_pass_softmax.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme::bench {
namespace {

constexpr int kRuns = 31;
constexpr int64_t kElements = 8192;  // of a first-level cache
constexpr int kRepeats = 64;

void gelu_errors(Report& report) {
  struct Form {
    const char* name;
    double (*value)(double);
    double limit;
  };
  const Form forms[] = {
      {"table, 177 entries",
       [](double x) {
         const auto in = static_cast<float>(x);
         float out = 0;
         gelu_table(&in, 1, &out);
         return static_cast<double>(out);
       },
       1.0e-4},
      {"0.5 x (1 + tanh(...))",
       [](double x) {
         return x / 2 *
                (1 + std::tanh(std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x)));
       },
       5e-4},
      {"x sigmoid(1.702 x)", [](double x) { return x / (1 + std::exp(-1.702 * x)); }, 2.1e-2}};
  for (const Form& form : forms) {
    double worst = 0, at = 0, squares = 0;
    constexpr int kPerUnit = 4096;
    for (int i = -8 * kPerUnit; i <= 8 * kPerUnit; ++i) {
      const double x = static_cast<double>(i) / kPerUnit;
      const double error = std::abs(form.value(x) - x / 2 * std::erfc(-x / std::numbers::sqrt2));
      squares += error * error;
      if (error > worst) {
        worst = error;
        at = x;
      }
    }
    MNEME_CHECK(worst <= form.limit, "bench_edge_moe: ", form.name, " errs by ", worst,
                ", expected at most ", form.limit);
    report.row({{"what", "GELU error on [-8, 8]"},
                {"form", form.name},
                {"largest error", worst},
                {"at x", at},
                {"rms error", std::sqrt(squares / (16 * kPerUnit + 1))}});
  }
}

template <typename Body>
double nanoseconds_each(int64_t elements, const Body& body) {
  const Timing time = time_runs(kRuns, [&] {
    for (int i = 0; i < kRepeats; ++i) body();
  });
  return time.median_s * 1e9 / static_cast<double>(elements * kRepeats);
}

void gelu_speed(Report& report) {
  const std::vector<float> x = random_floats(kElements, 1, 2), up = random_floats(kElements, 2);
  std::vector<float> y(x.size());
  const double copy = nanoseconds_each(kElements, [&] {
    y = x;
    keep(y);
  });
  const auto gated = [&](auto&& kernel) {
    return nanoseconds_each(kElements,
                            [&] {
                              y = x;
                              kernel(y.data(), up.data(), kElements);
                              keep(y);
                            }) -
           copy;
  };
  const double tanh = gated([](float* g, const float* u, int64_t n) { gelu_tanh_mul(g, u, n); });
  const double table = gated([](float* g, const float* u, int64_t n) { gelu_table_mul(g, u, n); });
  report.row({{"what", "gated GELU"}, {"form", "tanh"}, {"ns each", tanh}});
  report.row({{"what", "gated GELU"},
              {"form", "table"},
              {"ns each", table},
              {"speed against tanh", tanh / table}});
}

void softmax_speed(Report& report) {
  const std::vector<float> x = random_floats(kElements, 3, 4);
  std::vector<float> y(x.size()), z(x.size());
  const double two_passes =
      nanoseconds_each(kElements, [&] { keep(log_sum_exp(x.data(), kElements)); });
  const double one_pass =
      nanoseconds_each(kElements, [&] { keep(single_pass_softmax_row(x.data(), kElements)); });
  y = x;
  softmax(y.data(), kElements);
  single_pass_softmax_weights(single_pass_softmax_row(x.data(), kElements), x.data(), kElements,
                              z.data());
  for (size_t i = 0; i < y.size(); ++i) {
    MNEME_CHECK(std::abs(y[i] - z[i]) <= 1e-6f * y[i] + 1e-12f, "bench_edge_moe: weight ", i,
                " is ", z[i], ", expected ", y[i]);
  }
  report.row({{"what", "softmax denominator"}, {"form", "two passes"}, {"ns each", two_passes}});
  report.row({{"what", "softmax denominator"},
              {"form", "single pass"},
              {"ns each", one_pass},
              {"speed against two passes", two_passes / one_pass}});
}

// M3ViT's attention: 129 tokens, 3 heads of 64.
void attention_speed(Report& report) {
  constexpr int64_t kRows = 129, kHeads = 3, kDim = 64;
  ThreadPool pool(report.threads());
  Rng rng(1);
  const RowFormat format{RowEncoding::kF32, kDim, kDim};
  testing::PagedRows rows(format, kHeads);
  const std::vector<float> q = testing::normals(rng, kRows * kHeads * kDim);
  const std::vector<float> k = testing::normals(rng, kRows * kHeads * kDim);
  const std::vector<float> v = testing::normals(rng, kRows * kHeads * kDim);
  for (int64_t row = 0; row < kRows; ++row) {
    for (int64_t head = 0; head < kHeads; ++head) {
      const int64_t at = (row * kHeads + head) * kDim;
      rows.append(head, static_cast<int32_t>(row), k.data() + at, v.data() + at);
    }
  }
  // Every query sees every key: the first stands at the last position.
  const PagedAttention plain{format, kHeads, kHeads, 0.125f};
  AttentionScratch scratch;
  std::vector<float> want(q.size()), got(q.size());
  const auto& heads = rows.views();
  const auto run_plain = [&] {
    paged_attention(plain, kRows, kRows - 1, q.data(), heads, want.data(), scratch, pool);
  };
  const Timing plain_time = time_runs(kRuns, run_plain);
  for (const int64_t parallel : {1, 4, 8}) {
    const ReorderedAttention config{kRows, kHeads, kDim, kDim, 0.125f, parallel};
    const Timing time = time_runs(kRuns, [&] {
      reordered_attention(config, q.data(), k.data(), v.data(), got.data(), {}, scratch, pool);
    });
    for (size_t i = 0; i < got.size(); ++i) {
      MNEME_CHECK(std::abs(got[i] - want[i]) <= 2e-6, "bench_edge_moe: output ", i, " is ", got[i],
                  ", expected ", want[i]);
    }
    report.row({{"what", "attention 129 x 3 x 64"},
                {"form", concat("staggered, ", parallel, " at once")},
                {"us", time.median_s * 1e6},
                {"speed against paged attention", plain_time.median_s / time.median_s}});
  }
}

void run(Report& report) {
  gelu_errors(report);
  gelu_speed(report);
  softmax_speed(report);
  attention_speed(report);
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("edge_moe", argc, argv, mneme::bench::run);
}
