#include "mneme/kernels/int8_product.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "mneme/core/rng.h"
#include "mneme/kernels/int8_testing.h"
#include "mneme/kernels/targets_testing.h"
#include "mneme/kernels/weight_testing.h"
#include "tests/support/error_of.h"

namespace mneme {
namespace {

using testing::error_of;
using ::testing::HasSubstr;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

std::vector<int8_t> random_codes(int64_t n, uint64_t seed) {
  Rng rng(seed);
  std::vector<int8_t> codes(static_cast<size_t>(n));
  for (int8_t& code : codes) code = static_cast<int8_t>(static_cast<int64_t>(rng.below(255)) - 127);
  return codes;
}

PackedInt8 packed(const std::vector<int8_t>& codes, int64_t out, int64_t in) {
  PackedInt8 w(out, in);
  for (int64_t n = 0; n < out; ++n) w.set_row(n, codes.data() + n * in);
  return w;
}

// [rows, whole groups] of a + 128.
std::vector<uint8_t> biased(const std::vector<int8_t>& a, int64_t rows, int64_t in) {
  const int64_t stride = (in + 3) / 4 * 4;
  std::vector<uint8_t> codes(static_cast<size_t>(rows * stride), 128);
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t k = 0; k < in; ++k) {
      codes[static_cast<size_t>(m * stride + k)] =
          static_cast<uint8_t>(a[static_cast<size_t>(m * in + k)] + 128);
    }
  }
  return codes;
}

void expect_exact(const std::vector<int8_t>& a, const std::vector<int8_t>& b, int64_t rows,
                  int64_t out, int64_t in) {
  const std::vector<int32_t> expected = naive_int8_product(a, b, rows, out, in);
  const PackedInt8 w = packed(b, out, in);
  const std::vector<uint8_t> x = biased(a, rows, in);
  const int64_t stride = (in + 3) / 4 * 4;
  for (int64_t first = 0; first < w.panels(); ++first) {
    for (int64_t last = first + 1; last <= std::min(w.panels(), first + kPanelBlock); ++last) {
      const int64_t width = 16 * (last - first);
      std::vector<int32_t> c(static_cast<size_t>(rows * width), -1);
      int8_product(x.data(), rows, stride, w, first, last, c.data(), width);
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t n = 16 * first; n < std::min(out, 16 * last); ++n) {
          ASSERT_EQ(c[static_cast<size_t>(m * width + n - 16 * first)],
                    expected[static_cast<size_t>(m * out + n)])
              << rows << " x " << out << " x " << in << " at " << m << ", " << n;
        }
      }
    }
  }
}

TEST(Int8Product, IsExact) {
  for_each_arithmetic([] {
    for (const int64_t rows : {1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 13}) {
      for (const int64_t in : {1, 2, 3, 4, 63, 100, 257}) {
        const int64_t out = rows % 2 == 0 ? 33 : 100;
        expect_exact(random_codes(rows * in, 1), random_codes(out * in, 2), rows, out, in);
      }
    }
  });
}

// The largest sums, of either sign, at the widest matrix there may be; those of a + 128 wrap on the
// way.
TEST(Int8Product, IsExactAtTheLimitOf32Bits) {
  for_each_arithmetic([] {
    const int64_t in = PackedInt8::kMostInputs;
    const std::vector<int8_t> high(static_cast<size_t>(in), 127),
        low(static_cast<size_t>(in), -127);
    expect_exact(high, high, 1, 1, in);
    expect_exact(low, high, 1, 1, in);
    expect_exact(low, low, 1, 1, in);
  });
}

TEST(Int8Product, FloatsAreNearTheFloat64ProductAndTheSameBitsInAnyTile) {
  for_each_target([] {
    for (const int64_t in : {1, 3, 63, 100, 1000}) {
      const int64_t rows = 13, out = 57, stride = in + 2;
      const std::vector<int8_t> codes = random_codes(out * in, 3);
      const PackedInt8 w = packed(codes, out, in);
      std::vector<int32_t> all(static_cast<size_t>(in));
      std::iota(all.begin(), all.end(), 0);
      std::vector<float> x = random_floats(rows * stride, 4);
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t k = in; k < stride; ++k) x[static_cast<size_t>(m * stride + k)] = kNan;
      }
      const int64_t width = 16 * w.panels();
      std::vector<float> columns(static_cast<size_t>(in * width), kNan);
      expand_panels(w, 0, w.panels(), all.data(), in, columns.data());
      std::vector<float> whole(static_cast<size_t>(rows * width), kNan);
      float_product(x.data(), rows, stride, columns.data(), in, width, whole.data(), width);
      for (int64_t m = 0; m < rows; ++m) {
        for (int64_t n = 0; n < out; ++n) {
          double exact = 0, magnitude = 0;
          for (int64_t k = 0; k < in; ++k) {
            const double product = static_cast<double>(x[static_cast<size_t>(m * stride + k)]) *
                                   codes[static_cast<size_t>(n * in + k)];
            exact += product;
            magnitude += std::abs(product);
          }
          // The bound of float32 accumulation in any order.
          ASSERT_NEAR(whole[static_cast<size_t>(m * width + n)], exact,
                      static_cast<double>(in) * 0x1p-24 * magnitude);
        }
      }
      // Every number of rows and of panels gives a row the same bits.
      for (int64_t count = 1; count < rows; ++count) {
        const int64_t some = 16 * (1 + count % w.panels());
        std::vector<float> part(static_cast<size_t>(in * some));
        expand_panels(w, 0, some / 16, all.data(), in, part.data());
        std::vector<float> y(static_cast<size_t>(count * some), kNan);
        float_product(x.data(), count, stride, part.data(), in, some, y.data(), some);
        for (int64_t m = 0; m < count; ++m) {
          ASSERT_EQ(std::memcmp(y.data() + m * some, whole.data() + m * width,
                                static_cast<size_t>(some) * sizeof(float)),
                    0);
        }
      }
    }
  });
}

TEST(Int8Product, ChosenColumnsAreThoseOfTheCodes) {
  for_each_target([] {
    const int64_t out = 40, in = 23;
    const std::vector<int8_t> codes = random_codes(out * in, 9);
    const PackedInt8 w = packed(codes, out, in);
    const std::vector<int32_t> chosen = {0, 5, 6, 11, 22};
    std::vector<float> columns(chosen.size() * 32, kNan);
    expand_panels(w, 1, 3, chosen.data(), static_cast<int64_t>(chosen.size()), columns.data());
    for (size_t i = 0; i < chosen.size(); ++i) {
      for (int64_t n = 16; n < 48; ++n) {
        const float expected =
            n < out ? static_cast<float>(codes[static_cast<size_t>(n * in + chosen[i])]) : 0.0f;
        ASSERT_EQ(columns[i * 32 + static_cast<size_t>(n - 16)], expected) << i << ", " << n;
      }
    }
  });
}

TEST(Int8Product, EpilogueTakesWhatIsThere) {
  for_each_target([] {
    const int64_t n = 37;
    const std::vector<float> scales = random_floats(n, 1), float_scales = random_floats(n, 2),
                             bias = random_floats(n, 3), f = random_floats(n, 4);
    std::vector<int32_t> c(static_cast<size_t>(n));
    for (int64_t i = 0; i < n; ++i)
      c[static_cast<size_t>(i)] = static_cast<int32_t>(1000 * i - 9999);
    for (int choice = 0; choice < 16; ++choice) {
      const bool with_c = (choice & 1) != 0, with_f = (choice & 2) != 0;
      const Int8Epilogue parts{.scales = scales.data(),
                               .float_scales = (choice & 4) != 0 ? float_scales.data() : nullptr,
                               .bias = (choice & 8) != 0 ? bias.data() : nullptr};
      std::vector<float> y(static_cast<size_t>(n) + 1, 77);
      int8_epilogue(with_c ? c.data() : nullptr, with_f ? f.data() : nullptr, 0.25f, parts, n,
                    y.data());
      for (size_t i = 0; i < static_cast<size_t>(n); ++i) {
        double expected = with_c ? 0.25 * scales[i] * c[i] : 0;
        double magnitude = std::abs(expected);
        if (with_f) {
          const double part = f[i] * (parts.float_scales != nullptr ? float_scales[i] : 1.0);
          expected += part;
          magnitude += std::abs(part);
        }
        if (parts.bias != nullptr) {
          expected += bias[i];
          magnitude += std::abs(bias[i]);
        }
        ASSERT_NEAR(y[i], expected, 4 * 0x1p-24 * magnitude) << "parts " << choice << " at " << i;
      }
      EXPECT_EQ(y.back(), 77);
    }
  });
}

TEST(PackedInt8, GivesRowsBackAndRefusesWhatCannotBe) {
  const std::vector<int8_t> codes = random_codes(19 * 7, 8);
  const PackedInt8 w = packed(codes, 19, 7);
  std::vector<int8_t> row(7);
  for (int64_t n = 0; n < 19; ++n) {
    w.get_row(n, row.data());
    EXPECT_TRUE(std::equal(row.begin(), row.end(), codes.begin() + n * 7));
    int32_t sum = 0;
    for (const int8_t code : row) sum += code;
    EXPECT_EQ(w.sums()[n], sum);
  }
  EXPECT_EQ(w.bytes(), 2 * 2 * 64 + 32 * 4);
  // Two blocks, the second with one panel: every place is one code's.
  PackedInt8 blocks(70, 9);
  for (int64_t n = 0; n < 70; ++n) {
    const std::vector<int8_t> same(9, static_cast<int8_t>(n));
    blocks.set_row(n, same.data());
  }
  for (int64_t n = 0; n < 70; ++n) {
    for (int64_t k = 0; k < 9; ++k) ASSERT_EQ(blocks.code(n, k), n);
  }
  EXPECT_THAT(error_of([] { PackedInt8(1, PackedInt8::kMostInputs + 1); }),
              HasSubstr("sums of 131072 products do not fit 32 bits, expected at most 131071"));
  EXPECT_THAT(error_of([] { PackedInt8(-1, 4); }), HasSubstr("got [-1, 4]"));
}

}  // namespace
}  // namespace mneme
