#include "mneme/kernels/int8_baselines.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "mneme/core/error.h"
#include "mneme/kernels/int8_product.h"

namespace mneme {
namespace {

// q = round(v * factor) + zero_point, and what one step of q stands for.
struct Affine {
  float factor = 0, step = 0;
  double zero_point = 0;  // a whole number, far outside of a byte where all values are of one sign

  int8_t code(float value) const {
    const double rounded = std::nearbyint(value * factor);
    return static_cast<int8_t>(std::clamp(rounded + zero_point, -128.0, 127.0));
  }
};

Affine symmetric(float absmax) {
  const float factor = 127.0f / absmax;
  if (!std::isfinite(factor)) return {};  // zeros, and values too small to tell from them
  return {factor, absmax / 127.0f, 0};
}

Affine zero_point(float low, float high) {
  if (low == high) {  // one value: give it a range with 0 in it
    low = std::min(low, 0.0f);
    high = std::max(high, 0.0f);
    if (low == high) return {};
  }
  const float factor = 255.0f / (high - low);
  if (!std::isfinite(factor)) return {};
  return {factor, (high - low) / 255.0f, std::nearbyint(-low * factor) - 128.0};
}

struct Range {
  float low = HUGE_VALF, high = -HUGE_VALF;
  void add(const float* x, int64_t n) {
    for (int64_t i = 0; i < n; ++i) {
      low = std::min(low, x[i]);
      high = std::max(high, x[i]);
    }
  }
  float absmax() const { return std::max(std::abs(low), std::abs(high)); }
};

Affine of_range(Int8Method method, const Range& range) {
  if (range.low > range.high) return {};  // no values
  return method == Int8Method::kZeroPoint ? zero_point(range.low, range.high)
                                          : symmetric(range.absmax());
}

}  // namespace

Int8Baseline::Int8Baseline(std::string name, int64_t out, int64_t in, Int8Linear::RowReader rows,
                           Int8Method method, ThreadPool& pool)
    : name_(std::move(name)),
      method_(method),
      codes_(out, in),
      scales_(static_cast<size_t>(out), 0.0f) {
  std::vector<Range> ranges(static_cast<size_t>(out));
  pool.run(out, [&](int64_t n, int) {
    std::vector<float> row(static_cast<size_t>(in));
    rows(n, row.data());
    int8_absmax(row.data(), in, name_, "weights", n);
    ranges[static_cast<size_t>(n)].add(row.data(), in);
  });
  Range whole;
  for (const Range& range : ranges) {
    whole.low = std::min(whole.low, range.low);
    whole.high = std::max(whole.high, range.high);
  }
  const Affine tensor = of_range(method, whole);
  zero_point_ = tensor.zero_point;
  pool.run(out, [&](int64_t n, int) {
    std::vector<float> row(static_cast<size_t>(in));
    std::vector<int8_t> codes(static_cast<size_t>(in));
    rows(n, row.data());
    const Affine affine =
        method == Int8Method::kVector ? of_range(method, ranges[static_cast<size_t>(n)]) : tensor;
    for (int64_t k = 0; k < in; ++k) {
      codes[static_cast<size_t>(k)] = affine.code(row[static_cast<size_t>(k)]);
    }
    codes_.set_row(n, codes.data());
    scales_[static_cast<size_t>(n)] = affine.step;
  });
}

void Int8Baseline::forward(const float* x, int64_t rows, int64_t x_stride, float* y,
                           int64_t y_stride, ThreadPool& pool) const {
  const int64_t in = codes_.in(), out = codes_.out();
  MNEME_CHECK(rows >= 0 && x_stride >= in && y_stride >= out, name_,
              ": expected rows >= 0, x_stride >= ", in, ", y_stride >= ", out, ", got ", rows, ", ",
              x_stride, ", ", y_stride);
  Range whole;
  for (int64_t m = 0; m < rows; ++m) {
    int8_absmax(x + m * x_stride, in, name_, "activations", m);
    whole.add(x + m * x_stride, in);
  }
  const Affine tensor = of_range(method_, whole);
  const bool by_row = method_ == Int8Method::kRow || method_ == Int8Method::kVector;
  const int64_t stride = Int8Activations::stride_of(in);
  pool.run(rows, [&](int64_t m, int) {
    const float* row = x + m * x_stride;
    Range range;
    range.add(row, in);
    const Affine affine = by_row ? of_range(method_, range) : tensor;
    std::vector<uint8_t> biased(static_cast<size_t>(stride), 128);
    int64_t sum = 0;
    for (int64_t k = 0; k < in; ++k) {
      const int8_t code = affine.code(row[k]);
      biased[static_cast<size_t>(k)] = static_cast<uint8_t>(code + 128);
      sum += code;
    }
    // (q - zp)(p - zw) = q p - zw q - zp p + zp zw, summed over `in`.
    const double of_row = static_cast<double>(in) * affine.zero_point * zero_point_ -
                          zero_point_ * static_cast<double>(sum);
    int32_t c[kBlockOutputs];
    for (int64_t first = 0; first < codes_.panels(); first += kPanelBlock) {
      const int64_t last = std::min(codes_.panels(), first + kPanelBlock);
      int8_product(biased.data(), 1, stride, codes_, first, last, c, kBlockOutputs);
      const int64_t begin = first * PackedInt8::kPanel;
      for (int64_t n = begin; n < std::min(out, last * PackedInt8::kPanel); ++n) {
        const double product = c[n - begin] + of_row - affine.zero_point * codes_.sums()[n];
        y[m * y_stride + n] =
            static_cast<float>(product) * (affine.step * scales_[static_cast<size_t>(n)]);
      }
    }
  });
}

}  // namespace mneme
