// A linear layer with int8 weights: LLM.int8() (Dettmers, Lewis, Belkada, Zettlemoyer 2022), with
// the semantics of bitsandbytes' MatMul8bitLt.
//
//   once:     SCB[n] = max_k |W[n, k]|, CB[n, k] = round(W[n, k] * (127 / SCB[n]))
//   forward:  outlier columns O, SCA [rows], CA [rows, in] of x (int8_quantize.h)
//             y[m, n] = (CA CB^T)[m, n] * SCA[m] * SCB[n] / 127^2 + bias[n]
//                       + sum over O of x[m, k] * CB[n, k] * SCB[n] / 127    (or * W[n, k])
//   backward: dx[m, k] = sum_n dy[m, n] * CB[n, k] * SCB[n] / 127            (straight through)
//
// With activations kFloat ("weight-only") nothing but the weights is quantised:
// y = x (CB SCB / 127)^T + bias to the precision of float32 (int8_split.h), and each row's bits are
// those of the row alone. With kInt8 they depend on which rows share the call, through O: that is
// the method. A weight takes one byte, and 8 more bytes a row of `in`, in whole panels of 16
// outputs. Tests: int8_linear_test.cc, int8_golden_test.cc.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mneme/core/function_ref.h"
#include "mneme/core/thread_pool.h"
#include "mneme/kernels/int8_quantize.h"
#include "mneme/kernels/packed_int8.h"

namespace mneme {

struct Int8Options {
  enum class Activations {
    kAuto,   // kFloat for a single row, where int8 gains nothing; kInt8 for more
    kInt8,   // quantised, with the outlier columns in float
    kFloat,  // as they are: only weights are quantised
  };
  double threshold = 6;  // from which magnitude an activation is an outlier; 0: there are none
  Activations activations = Activations::kAuto;
  // Multiply outlier columns with the weights as they were: better, at 4 more bytes a weight.
  bool keep_original = false;
};

// What one call did.
struct Int8Call {
  bool quantised = false;  // activations
  int64_t outlier_columns = 0;
};

// A task's share of a product: rows [m, m + rows), panels [first, last).
struct Int8Share {
  int64_t m, rows, first, last;
  int64_t width() const { return (last - first) * PackedInt8::kPanel; }
};

class Int8Linear {
 public:
  // Writes row n of the weight, [in], into `to`.
  using RowReader = FunctionRef<void(int64_t n, float* to)>;

  // Quantises a weight [out, in] row by row on the pool; `rows` may be called by several threads.
  // bias [out] or empty. Throws Error naming `name` on a negative or non-finite threshold, extents
  // that cannot be, and values that are not finite.
  Int8Linear(std::string name, int64_t out, int64_t in, RowReader rows, std::span<const float> bias,
             const Int8Options& options, ThreadPool& pool);
  // From the parts of an official state dict: weight int8 [out, in] (CB), SCB [out] (absmax, not
  // divided by 127), weight_format (0: row-major; others are refused). Throws Error naming `name`.
  static Int8Linear from_state(std::string name, std::span<const int64_t> weight_shape,
                               std::span<const int8_t> weight, std::span<const float> scb,
                               int64_t weight_format, std::span<const float> bias,
                               const Int8Options& options);

  // x [rows, in], y [rows, out] overwritten, row strides x_stride >= in, y_stride >= out. Throws
  // Error naming the layer when x holds a value that is not finite. Allocates nothing once a call
  // of this size was made on this thread.
  Int8Call forward(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
                   ThreadPool& pool) const;
  // dy [rows, out], dx [rows, in] overwritten.
  void backward_input(const float* dy, int64_t rows, int64_t dy_stride, float* dx,
                      int64_t dx_stride, ThreadPool& pool) const;

  const std::string& name() const { return name_; }
  int64_t out() const { return codes_.out(); }
  int64_t in() const { return codes_.in(); }
  const Int8Options& options() const { return options_; }
  const PackedInt8& codes() const { return codes_; }
  // SCB, [out].
  std::span<const float> absmax() const { return {absmax_.data(), static_cast<size_t>(out())}; }
  std::span<const float> bias() const { return {bias_.data(), bias_.size()}; }
  // Everything it holds: codes, their sums, SCB, bias, and the originals where they are kept.
  int64_t bytes() const;
  // Of forward() with that many rows, besides x and y, without outlier columns.
  int64_t workspace_bytes(int64_t rows) const;

 private:
  Int8Linear(std::string name, int64_t out, int64_t in, std::span<const float> bias,
             const Int8Options& options);
  void forward_float(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
                     ThreadPool& pool) const;
  // The outputs of a share from its integer sums c and float sums f, either may be null.
  void write_outputs(const Int8Share& share, const int32_t* c, const float* f,
                     const float* row_scales, float* y, int64_t y_stride) const;

  std::string name_;
  PackedInt8 codes_;
  Int8Options options_;
  // Filled up to whole panels.
  std::vector<float> absmax_;
  std::vector<float> bias_;      // [out] or empty
  std::vector<float> original_;  // [panels, in, 16] where kept
};

// c [rows, out] = CA CB^T, exact.
void int8_matmul(const Int8Activations& x, const PackedInt8& w, int32_t* c, int64_t c_stride,
                 ThreadPool& pool);

}  // namespace mneme
