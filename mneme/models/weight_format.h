// In which form the linear layers of a decoder hold their weights, by a spec string:
//
//   file                                        as stored in the model's file, in another order; products
//                                               round activations to 16 bits (packed_matmul.h)
//   float                                       as stored in the model's file; products in float32
//   int8                                        LLM.int8(), kernels/int8_linear.h
//   int8(threshold=6,activations=auto,keep_original=false)
//
// Embedding, output layer and norms stay as stored in every form. Tests: weight_format_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "mneme/kernels/int8_linear.h"
#include "mneme/models/decoder.h"

namespace mneme {

struct WeightFormat {
  enum class Kind { kFile, kFloat, kInt8 };
  Kind kind = Kind::kFile;
  Int8Options int8;  // kInt8

  // The spec with every parameter.
  std::string text() const;
};

// Throws Error naming what is wrong with the spec and what is expected.
WeightFormat parse_weight_format(std::string_view spec);

// What each call of an int8 linear did: its layer, its weight, the columns of x.
struct Int8Observation {
  int64_t layer;
  const TensorView& weight;
  const float* x;
  int64_t rows, x_stride;
  Int8Call call;
};
using Int8Observer = std::function<void(const Int8Observation&)>;

// Converts the linear layers of every decoder layer from the file's tensors, on the pool; may be
// called again with another format. `observer`, where given, sees every call of an int8 linear.
// Throws Error naming the weight that cannot be converted.
void set_weight_format(DecoderModel& model, const WeightFormat& format, ThreadPool& pool,
                       const Int8Observer& observer = {});

// What the forms are and what they cost, for `mneme explain int8`.
std::string weight_format_card();

}  // namespace mneme
