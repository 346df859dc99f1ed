// What stands between a model's matrix products: selection over scores against std::nth_element,
// scoring of quantised rows against reading them, and the decoder's vector operations fused and
// threaded against one after the other on one thread. Each is compared with its peer's result
// first.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "bench/bench.h"
#include "mneme/kernels/affine_quant.h"
#include "mneme/kernels/code_scores.h"
#include "mneme/kernels/decoder_rows.h"
#include "mneme/kernels/select.h"
#include "mneme/kernels/weight_testing.h"

namespace mneme::bench {
namespace {

constexpr int kRuns = 31;

void selection(Report& report, int64_t n, int64_t k) {
  const std::vector<float> scores = random_floats(n, 1);
  std::vector<int32_t> all(scores.size()), chosen(static_cast<size_t>(k));
  const auto before = [&](int32_t a, int32_t b) {
    const float left = scores[static_cast<size_t>(a)], right = scores[static_cast<size_t>(b)];
    return left != right ? left > right : a < b;
  };
  const Timing peer = time_runs(kRuns, [&] {
    std::iota(all.begin(), all.end(), 0);
    std::nth_element(all.begin(), all.begin() + k, all.end(), before);
    std::sort(all.begin(), all.begin() + k);
    keep(all);
  });
  SelectScratch scratch;
  const Timing time = time_runs(kRuns, [&] {
    select_top_k(scores, k, SelectOrder::kIndex, chosen, scratch);
    keep(chosen);
  });
  MNEME_CHECK(std::equal(chosen.begin(), chosen.end(), all.begin()), "bench_vectors: top ", k,
              " of ", n, " differs from nth_element: no figure");
  report.row({{"what", "top k, ascending"},
              {"size", concat(k, " of ", n)},
              {"us", time.median_s * 1e6},
              {"against", "nth_element, sort"},
              {"speed-up", peer.median_s / time.median_s}});
}

// Rows beyond every cache, scored as a policy does.
void scoring(Report& report, ThreadPool& pool, int bits) {
  constexpr int64_t kDim = 64, kGroup = 64, kDistinct = 4096;
  const int64_t rows =
      (int64_t{96} << 20) / affine_row_bytes(kDim, bits, kGroup) / kDistinct * kDistinct;
  const int64_t row_words = kDim * bits / 32;
  const std::vector<float> x = random_floats(kDistinct * kDim, 2), q = random_floats(kDim, 3);
  std::vector<uint32_t> words(static_cast<size_t>(rows * row_words));
  std::vector<float> scales(static_cast<size_t>(rows)), biases(scales.size()),
      scores(scales.size());
  for (int64_t r = 0; r < rows; ++r) {
    if (r < kDistinct) {
      affine_quantize_row(x.data() + r * kDim, kDim, bits, kGroup, words.data() + r * row_words,
                          scales.data() + r, biases.data() + r);
    } else {
      std::copy_n(words.data() + (r - kDistinct) * row_words, row_words,
                  words.data() + r * row_words);
      scales[static_cast<size_t>(r)] = scales[static_cast<size_t>(r - kDistinct)];
      biases[static_cast<size_t>(r)] = biases[static_cast<size_t>(r - kDistinct)];
    }
  }
  CodeQuery query;
  query.set(q.data(), kDim, bits, kGroup);
  const CodeRows view{words.data(), scales.data(), biases.data(), rows, kDim, bits, kGroup};
  const Timing time = time_runs(9, [&] { score_rows(view, query, scores.data(), pool); });
  std::vector<uint8_t> codes(kDim);
  for (int64_t r = 0; r < kDistinct; ++r) {
    affine_unpack(words.data() + r * row_words, kDim, bits, codes.data());
    double want = 0, bound = 1e-3;
    for (int64_t i = 0; i < kDim; ++i) {
      const double value =
          static_cast<double>(scales[static_cast<size_t>(r)]) * codes[static_cast<size_t>(i)] +
          static_cast<double>(biases[static_cast<size_t>(r)]);
      want += value * static_cast<double>(q[static_cast<size_t>(i)]);
      bound += std::abs(value) * static_cast<double>(query.units()[0]) / 2;
    }
    MNEME_CHECK(std::abs(static_cast<double>(scores[static_cast<size_t>(r)]) - want) <= bound,
                "bench_vectors: score ", r, " is ", scores[static_cast<size_t>(r)], ", expected ",
                want, " within ", bound, ": no figure");
  }
  const double bytes = static_cast<double>(rows * (kDim * bits / 8 + 8));
  report.row({{"what", concat("scores of ", bits, "-bit rows")},
              {"size", concat(rows, " x ", kDim)},
              {"us", time.median_s * 1e6},
              {"GB/s", bytes / time.median_s / 1e9},
              {"share of reading", bytes / time.median_s / 1e9 / report.limits().read_gb_per_s}});
  report.kernel(concat("scores of ", bits, "-bit rows"), 2.0 * static_cast<double>(rows * kDim),
                bytes, time.median_s);
}

// A prompt's rows of SmolLM2: residual add and norm, rotary turns of 9 query and 3 key heads of 64,
// the gate of 1,536.
void decoder_rows(Report& report, ThreadPool& pool) {
  constexpr int64_t kTokens = 512, kHidden = 576, kFfn = 1536, kDim = 64, kQ = 9, kKv = 3;
  const std::vector<float> weight = random_floats(kHidden, 1);
  std::vector<float> x = random_floats(kTokens * kHidden, 2),
                     y = random_floats(kTokens * kHidden, 3);
  std::vector<float> q = random_floats(kTokens * kQ * kDim, 4),
                     k = random_floats(kTokens * kKv * kDim, 5);
  std::vector<float> gate = random_floats(kTokens * kFfn, 6), up = random_floats(kTokens * kFfn, 7);
  std::vector<float> cosines(kTokens * kDim / 2), sines(cosines.size());
  rope_table(0, kTokens, kDim, 1e5, 1, nullptr, cosines.data(), sines.data());
  const auto measure = [&](const char* what, auto&& serial, auto&& threaded,
                           std::vector<float>& out) {
    const std::vector<float> begin = out, begin_x = x, begin_k = k;
    serial();
    const std::vector<float> want = out;
    out = begin, x = begin_x, k = begin_k;
    threaded();
    MNEME_CHECK(out == want, "bench_vectors: ", what, " differs between threads: no figure");
    // Once and again in turn, so that a slower machine slows both.
    std::vector<double> ratios;
    double serial_s = 0, threaded_s = 0;
    for (int i = 0; i < 7; ++i) {
      out = begin, x = begin_x, k = begin_k;
      serial_s = time_runs(7, serial).median_s;
      out = begin, x = begin_x, k = begin_k;
      threaded_s = time_runs(7, threaded).median_s;
      ratios.push_back(serial_s / threaded_s);
    }
    std::sort(ratios.begin(), ratios.end());
    out = begin, x = begin_x, k = begin_k;
    report.row({{"what", what},
                {"size", concat(kTokens, " tokens")},
                {"us", threaded_s * 1e6},
                {"against", "one thread, unfused"},
                {"speed-up", ratios[3]}});
  };
  measure(
      "add, rms_norm",
      [&] {
        add(x.data(), y.data(), kTokens * kHidden);
        rms_norm(x.data(), weight.data(), 1e-5f, kTokens, kHidden, y.data());
      },
      [&] {
        add_rms_norm(x.data(), y.data(), nullptr, weight.data(), 1e-5f, kTokens, kHidden, y.data(),
                     pool);
      },
      y);
  measure(
      "rope of q and k",
      [&] {
        rope(q.data(), kTokens, kQ, kDim, RopePairs::kInterleaved, cosines.data(), sines.data());
        rope(k.data(), kTokens, kKv, kDim, RopePairs::kInterleaved, cosines.data(), sines.data());
      },
      [&] {
        const RotaryRows parts[] = {{q.data(), kQ, nullptr}, {k.data(), kKv, nullptr}};
        norm_rope(parts, 0, kTokens, kDim, RopePairs::kInterleaved, cosines.data(), sines.data(),
                  pool);
      },
      q);
  measure(
      "silu_mul", [&] { silu_mul(gate.data(), up.data(), kTokens * kFfn); },
      [&] { silu_mul(gate.data(), up.data(), kTokens * kFfn, pool); }, gate);
}

void run(Report& report) {
  ThreadPool pool(report.threads());
  for (const int64_t n : {512, 8192, 131072}) {
    for (const int64_t k : {n / 16, n / 4}) selection(report, n, k);
  }
  for (const int bits : {8, 4}) scoring(report, pool, bits);
  decoder_rows(report, pool);
}

}  // namespace
}  // namespace mneme::bench

int main(int argc, char** argv) {
  return mneme::bench::report_main("vectors", argc, argv, mneme::bench::run);
}
