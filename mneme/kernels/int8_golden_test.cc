// Files of layers run through bitsandbytes: any case with out.CB and out.CA.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "mneme/kernels/int8_linear.h"
#include "mneme/kernels/int8_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "tests/support/golden.h"

namespace mneme {
namespace {

// What a case holds.
struct Case {
  const testing::GoldenCase& golden;
  int64_t out, in, rows;
  std::vector<float> x, weight, bias;
  double threshold;

  explicit Case(const testing::GoldenCase& of)
      : golden(of),
        out(of.shape("param.weight").at(0)),
        in(of.shape("param.weight").at(1)),
        rows(0),
        x(of.floats("in.x")),
        weight(of.floats("param.weight")),
        threshold(of.config().value("threshold", 6.0)) {
    rows = static_cast<int64_t>(x.size()) / in;
    if (of.has("param.bias")) bias = of.floats("param.bias");
  }

  Int8Linear make(bool keep_original, ThreadPool& pool) const {
    return Int8Linear(
        golden.name(), out, in,
        [&](int64_t n, float* to) { std::copy_n(weight.begin() + n * in, in, to); }, bias,
        {threshold, Int8Options::Activations::kInt8, keep_original}, pool);
  }
};

class GoldenInt8 : public ::testing::Test {
 protected:
  template <typename Check>
  void for_each_case(Check&& check) {
    const auto file = testing::GoldenFile::open("13-llm-int8");
    if (!file) GTEST_SKIP() << "13-llm-int8.safetensors";
    int checked = 0;
    for (const testing::GoldenCase& golden : file->cases()) {
      if (!golden.has("out.CB") || !golden.has("out.CA")) continue;
      ++checked;
      SCOPED_TRACE(golden.name());
      const Case one(golden);
      for_each_arithmetic([&] { check(one); });
    }
    EXPECT_GT(checked, 0);
  }
  ThreadPool pool_{2};
};

TEST_F(GoldenInt8, CodesAndScales) {
  for_each_case([&](const Case& one) {
    const testing::GoldenCase& golden = one.golden;
    const Int8Linear linear = one.make(false, pool_);
    std::vector<int64_t> cb;
    std::vector<int8_t> row(static_cast<size_t>(one.in));
    for (int64_t n = 0; n < one.out; ++n) {
      linear.codes().get_row(n, row.data());
      cb.insert(cb.end(), row.begin(), row.end());
    }
    EXPECT_EQ(cb, golden.integers("out.CB"));
    testing::expect_close({linear.absmax().begin(), linear.absmax().end()},
                          golden.floats("out.SCB"), 0, 1e-6, "SCB");

    Int8Activations x;
    x.quantize(one.x.data(), one.rows, one.in, one.in, one.threshold, golden.name(), pool_);
    std::vector<int64_t> ca;
    for (int64_t m = 0; m < one.rows; ++m) {
      for (int64_t k = 0; k < one.in; ++k) ca.push_back(x.code(m, k));
    }
    EXPECT_EQ(ca, golden.integers("out.CA"));
    testing::expect_close({x.absmax(), x.absmax() + one.rows}, golden.floats("out.SCA"), 0, 1e-6,
                          "SCA");
    const std::vector<int64_t> outliers(x.outlier_columns().begin(), x.outlier_columns().end());
    EXPECT_EQ(outliers, golden.integers("out.outlier_cols"));

    std::vector<int32_t> c(static_cast<size_t>(one.rows * one.out));
    int8_matmul(x, linear.codes(), c.data(), one.out, pool_);
    EXPECT_EQ(std::vector<int64_t>(c.begin(), c.end()), golden.integers("out.acc_int32"));
  });
}

TEST_F(GoldenInt8, Outputs) {
  for_each_case([&](const Case& one) {
    for (const bool keep_original : {false, true}) {
      const char* part = keep_original ? "out.o_paper" : "out.o_exact";
      if (!one.golden.has(part)) continue;
      std::vector<float> y(static_cast<size_t>(one.rows * one.out));
      one.make(keep_original, pool_)
          .forward(one.x.data(), one.rows, one.in, y.data(), one.out, pool_);
      testing::expect_close(y, one.golden.floats(part), one.golden.abs_tolerance(),
                            one.golden.rel_tolerance(), part);
    }
  });
}

TEST_F(GoldenInt8, GradientOfTheInput) {
  for_each_case([&](const Case& one) {
    if (!one.golden.has("grad.x")) return;
    const std::vector<float> dy = one.golden.floats("in.dout");
    std::vector<float> dx(static_cast<size_t>(one.rows * one.in));
    one.make(false, pool_).backward_input(dy.data(), one.rows, one.out, dx.data(), one.in, pool_);
    testing::expect_close(dx, one.golden.floats("grad.x"), one.golden.abs_tolerance(),
                          one.golden.rel_tolerance(), "grad.x");
  });
}

}  // namespace
}  // namespace mneme
