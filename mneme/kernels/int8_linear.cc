#include "mneme/kernels/int8_linear.h"

#include <hwy/aligned_allocator.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/core/tensor_view.h"
#include "mneme/kernels/int8_product.h"
#include "mneme/kernels/int8_split.h"

namespace mneme {
namespace {

constexpr int64_t kPanel = PackedInt8::kPanel;
// Rows of a task: whole tiles of every target, and sums that stay in the first-level cache.
constexpr int64_t kRowChunk = 120;
static_assert(kRowChunk % SplitActivations::kDigits == 0);

// What a task writes before its outputs, kept by its thread from call to call.
class Scratch {
 public:
  int32_t* integers() { return integers_; }
  float* floats() { return floats_; }
  float* columns(int64_t count) {
    if (count > held_) {
      columns_ = hwy::AllocateAligned<float>(static_cast<size_t>(count * kBlockOutputs));
      MNEME_CHECK(columns_ != nullptr, "int8 linear: no memory for ", count, " columns of weights");
      held_ = count;
    }
    return columns_.get();
  }
  static int64_t bytes(int64_t columns) {
    return static_cast<int64_t>(sizeof(Scratch)) +
           columns * kBlockOutputs * static_cast<int64_t>(sizeof(float));
  }

 private:
  alignas(64) int32_t integers_[kRowChunk * kBlockOutputs];
  alignas(64) float floats_[kRowChunk * kBlockOutputs];
  hwy::AlignedFreeUniquePtr<float[]> columns_;
  int64_t held_ = 0;
};

Scratch& thread_scratch() {
  thread_local const auto scratch = std::make_unique<Scratch>();
  return *scratch;
}

// Cuts rows x panels into tasks; few rows into as many for every thread.
template <typename Body>
void over_shares(int64_t rows, int64_t chunk, int64_t panels, ThreadPool& pool, const Body& body) {
  int64_t blocks = ceil_div(panels, kPanelBlock);
  const int64_t chunks = ceil_div(rows, chunk);
  if (chunks == 1) blocks = std::min(panels, ceil_div(blocks, pool.size()) * pool.size());
  pool.run(blocks * chunks, [&](int64_t task, int) {
    const int64_t block = task / chunks, m = task % chunks * chunk;
    body(Int8Share{m, std::min(chunk, rows - m), block * panels / blocks,
                   (block + 1) * panels / blocks});
  });
}

// The columns `chosen` of panels [first, last) of original weights [panels, in, 16].
void gather_originals(const std::vector<float>& original, int64_t in, const Int8Share& share,
                      const std::vector<int32_t>& chosen, float* to) {
  for (const int32_t k : chosen) {
    for (int64_t p = share.first; p < share.last; ++p, to += kPanel) {
      std::copy_n(original.data() + (p * in + k) * kPanel, kPanel, to);
    }
  }
}

}  // namespace

Int8Linear::Int8Linear(std::string name, int64_t out, int64_t in, std::span<const float> bias,
                       const Int8Options& options)
    : name_(std::move(name)), codes_(out, in), options_(options), bias_(bias.begin(), bias.end()) {
  MNEME_CHECK(std::isfinite(options.threshold) && options.threshold >= 0, name_,
              ": the outlier threshold must be 0 (none) or positive, got ", options.threshold);
  MNEME_CHECK(bias.empty() || static_cast<int64_t>(bias.size()) == out, name_, ": expected ", out,
              " biases or none, got ", bias.size());
  absmax_.assign(static_cast<size_t>(codes_.panels() * kPanel), 0.0f);
}

Int8Linear::Int8Linear(std::string name, int64_t out, int64_t in, RowReader rows,
                       std::span<const float> bias, const Int8Options& options, ThreadPool& pool)
    : Int8Linear(std::move(name), out, in, bias, options) {
  if (options_.keep_original) {
    original_.assign(static_cast<size_t>(checked_mul(codes_.panels() * kPanel, in, "weights")),
                     0.0f);
  }
  pool.run(codes_.panels(), [&](int64_t p, int) {
    std::vector<float> row(static_cast<size_t>(in));
    std::vector<int8_t> codes(static_cast<size_t>(in));
    for (int64_t n = p * kPanel; n < std::min(out, (p + 1) * kPanel); ++n) {
      rows(n, row.data());
      const float absmax = int8_absmax(row.data(), in, name_, "weights", n);
      int8_quantize_row(row.data(), in, absmax, codes.data());
      codes_.set_row(n, codes.data());
      absmax_[static_cast<size_t>(n)] = absmax;
      if (original_.empty()) continue;
      float* to = original_.data() + p * in * kPanel + n % kPanel;
      for (int64_t k = 0; k < in; ++k) to[k * kPanel] = row[static_cast<size_t>(k)];
    }
  });
}

Int8Linear Int8Linear::from_state(std::string name, std::span<const int64_t> weight_shape,
                                  std::span<const int8_t> weight, std::span<const float> scb,
                                  int64_t weight_format, std::span<const float> bias,
                                  const Int8Options& options) {
  const std::vector<int64_t> shape(weight_shape.begin(), weight_shape.end());
  MNEME_CHECK(shape.size() == 2, name, ": expected an int8 weight [out, in], got ",
              shape_text(shape));
  MNEME_CHECK(weight_format == 0, name, ": weight_format must be 0 (row-major), got ",
              weight_format, "; save the layer again with a newer bitsandbytes");
  MNEME_CHECK(!scb.empty() || shape[0] == 0, name, ": an int8 weight needs its SCB, there is none");
  MNEME_CHECK(static_cast<int64_t>(scb.size()) == shape[0], name, ": expected SCB [", shape[0],
              "], got ", scb.size(), " values");
  MNEME_CHECK(static_cast<int64_t>(weight.size()) == shape[0] * shape[1], name, ": weight ",
              shape_text(shape), " needs ", shape[0] * shape[1], " codes, got ", weight.size());
  MNEME_CHECK(!options.keep_original, name,
              ": keep_original needs the weights before quantisation, a state dict has none");
  Int8Linear linear(std::move(name), shape[0], shape[1], bias, options);
  for (int64_t n = 0; n < shape[0]; ++n) {
    const float absmax = scb[static_cast<size_t>(n)];
    MNEME_CHECK(std::isfinite(absmax) && absmax >= 0, linear.name_,
                ": SCB must be finite and not negative, got ", absmax, " for row ", n);
    linear.absmax_[static_cast<size_t>(n)] = absmax;
    linear.codes_.set_row(n, weight.data() + n * shape[1]);
  }
  return linear;
}

Int8Call Int8Linear::forward(const float* x, int64_t rows, int64_t x_stride, float* y,
                             int64_t y_stride, ThreadPool& pool) const {
  MNEME_CHECK(rows >= 0, name_, ": rows must not be negative, got ", rows);
  MNEME_CHECK(x_stride >= in(), name_, ": x_stride must be at least ", in(), ", got ", x_stride);
  MNEME_CHECK(y_stride >= out(), name_, ": y_stride must be at least ", out(), ", got ", y_stride);
  if (rows == 0 || out() == 0) return {};
  const bool quantised = options_.activations == Int8Options::Activations::kInt8 ||
                         (options_.activations == Int8Options::Activations::kAuto && rows > 1);
  if (!quantised) {
    forward_float(x, rows, x_stride, y, y_stride, pool);
    return {};
  }
  thread_local Int8Activations kept;
  kept.quantize(x, rows, x_stride, in(), options_.threshold, name_, pool);
  const Int8Activations& activations = kept;  // this thread's also inside the tasks
  const auto outliers = static_cast<int64_t>(activations.outlier_columns().size());
  over_shares(rows, kRowChunk, codes_.panels(), pool, [&](const Int8Share& share) {
    Scratch& scratch = thread_scratch();
    const int64_t width = share.width();
    int8_product(activations.biased_codes() + share.m * activations.stride(), share.rows,
                 activations.stride(), codes_, share.first, share.last, scratch.integers(), width);
    const float* f = nullptr;
    if (outliers > 0) {
      float* columns = scratch.columns(outliers);
      if (original_.empty()) {
        expand_panels(codes_, share.first, share.last, activations.outlier_columns().data(),
                      outliers, columns);
      } else {
        gather_originals(original_, in(), share, activations.outlier_columns(), columns);
      }
      float_product(activations.outlier_values() + share.m * outliers, share.rows, outliers,
                    columns, outliers, width, scratch.floats(), width);
      f = scratch.floats();
    }
    write_outputs(share, scratch.integers(), f, activations.absmax(), y, y_stride);
  });
  return {true, outliers};
}

void Int8Linear::forward_float(const float* x, int64_t rows, int64_t x_stride, float* y,
                               int64_t y_stride, ThreadPool& pool) const {
  constexpr int64_t kDigits = SplitActivations::kDigits;
  thread_local SplitActivations kept;
  kept.split(x, rows, x_stride, in(), name_, pool);
  const SplitActivations& activations = kept;  // this thread's also inside the tasks
  over_shares(rows, kRowChunk / kDigits, codes_.panels(), pool, [&](const Int8Share& share) {
    Scratch& scratch = thread_scratch();
    const int64_t width = share.width(), stride = activations.stride();
    int8_product(activations.biased_digits() + share.m * kDigits * stride, share.rows * kDigits,
                 stride, codes_, share.first, share.last, scratch.integers(), width);
    for (int64_t m = 0; m < share.rows; ++m) {
      join_digit_products(scratch.integers() + m * kDigits * width, width,
                          activations.scales()[share.m + m], width, scratch.floats() + m * width);
    }
    write_outputs(share, nullptr, scratch.floats(), nullptr, y, y_stride);
  });
}

void Int8Linear::write_outputs(const Int8Share& share, const int32_t* c, const float* f,
                               const float* row_scales, float* y, int64_t y_stride) const {
  const int64_t width = share.width(), n = share.first * kPanel;
  float scales[kBlockOutputs], float_scales[kBlockOutputs];
  for (int64_t i = 0; i < width; ++i) {
    const float absmax = absmax_[static_cast<size_t>(n + i)];
    scales[i] = absmax / (127.0f * 127.0f);
    float_scales[i] = absmax / 127.0f;
  }
  // Outlier columns with their original weights are whole already.
  const bool whole = c != nullptr && !original_.empty();
  const Int8Epilogue parts{.scales = scales,
                           .float_scales = whole ? nullptr : float_scales,
                           .bias = bias_.empty() ? nullptr : bias_.data() + n};
  const int64_t outputs = std::min(width, out() - n);
  for (int64_t m = 0; m < share.rows; ++m) {
    int8_epilogue(c == nullptr ? nullptr : c + m * width, f == nullptr ? nullptr : f + m * width,
                  row_scales == nullptr ? 1.0f : row_scales[share.m + m], parts, outputs,
                  y + (share.m + m) * y_stride + n);
  }
}

void Int8Linear::backward_input(const float* dy, int64_t rows, int64_t dy_stride, float* dx,
                                int64_t dx_stride, ThreadPool& pool) const {
  MNEME_CHECK(rows >= 0, name_, ": rows must not be negative, got ", rows);
  MNEME_CHECK(dy_stride >= out(), name_, ": dy_stride must be at least ", out(), ", got ",
              dy_stride);
  MNEME_CHECK(dx_stride >= in(), name_, ": dx_stride must be at least ", in(), ", got ", dx_stride);
  if (rows == 0 || in() == 0) return;
  // dy * SCB / 127, [rows, out].
  std::vector<float> scaled(static_cast<size_t>(checked_mul(rows, out(), "gradients")));
  for (int64_t m = 0; m < rows; ++m) {
    for (int64_t n = 0; n < out(); ++n) {
      scaled[static_cast<size_t>(m * out() + n)] =
          dy[m * dy_stride + n] * (absmax_[static_cast<size_t>(n)] / 127.0f);
    }
  }
  // Inputs a task takes: whole groups and panels.
  constexpr int64_t kInputs = kBlockOutputs;
  pool.run(ceil_div(in(), kInputs), [&](int64_t task, int) {
    Scratch& scratch = thread_scratch();
    const int64_t first = task * kInputs, inputs = std::min(kInputs, in() - first);
    const int64_t width = ceil_div(inputs, kPanel) * kPanel;
    float* columns = scratch.columns(out());  // [out, width]
    for (int64_t n = 0; n < out(); ++n) {
      for (int64_t i = 0; i < width; ++i) {
        columns[n * width + i] = i < inputs ? static_cast<float>(codes_.code(n, first + i)) : 0.0f;
      }
    }
    for (int64_t m = 0; m < rows; m += kRowChunk) {
      const int64_t count = std::min(kRowChunk, rows - m);
      float_product(scaled.data() + m * out(), count, out(), columns, out(), width,
                    scratch.floats(), width);
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(scratch.floats() + i * width, inputs, dx + (m + i) * dx_stride + first);
      }
    }
  });
}

int64_t Int8Linear::bytes() const {
  return codes_.bytes() +
         static_cast<int64_t>((absmax_.size() + bias_.size() + original_.size()) * sizeof(float));
}

int64_t Int8Linear::workspace_bytes(int64_t rows) const {
  if (rows <= 1 || options_.activations == Int8Options::Activations::kFloat) {
    return Scratch::bytes(0) + SplitActivations::bytes_of(rows, in());
  }
  return Scratch::bytes(0) + Int8Activations::bytes_of(rows, in());
}

void int8_matmul(const Int8Activations& x, const PackedInt8& w, int32_t* c, int64_t c_stride,
                 ThreadPool& pool) {
  MNEME_CHECK(x.in() == w.in(), "int8_matmul: x has ", x.in(), " columns, w ", w.in(), " inputs");
  MNEME_CHECK(c_stride >= w.out(), "int8_matmul: c_stride must be at least ", w.out(), ", got ",
              c_stride);
  over_shares(x.rows(), kRowChunk, w.panels(), pool, [&](const Int8Share& share) {
    int32_t* tile = thread_scratch().integers();
    const int64_t width = share.width(), n = share.first * kPanel;
    int8_product(x.biased_codes() + share.m * x.stride(), share.rows, x.stride(), w, share.first,
                 share.last, tile, width);
    for (int64_t m = 0; m < share.rows; ++m) {
      std::copy_n(tile + m * width, std::min(width, w.out() - n), c + (share.m + m) * c_stride + n);
    }
  });
}

}  // namespace mneme
