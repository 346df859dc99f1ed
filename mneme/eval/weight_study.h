// Forms of a model's linear weights side by side on one text: quality, speed, bytes, and which
// columns of the activations are outliers.
//
// The text is cut into windows. Each form reads a window in one step from an empty memory, as the
// reference (the file's weights in float32 products, "float") did before; every token's logits are
// compared, and figures are over the tokens of all windows. A ratio of perplexities over a few hundred
// tokens is a noisy figure (ratio_error says how noisy), the divergence is not. Besides the specs of
// models/weight_format.h the study knows the baselines of LLM.int8()'s table 1: absmax-tensor,
// absmax-row, absmax-vector, zeropoint (kernels/int8_baselines.h). Tests: weight_study_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "mneme/core/thread_pool.h"
#include "mneme/kernels/outlier_features.h"
#include "mneme/models/decoder.h"

namespace mneme {

struct WeightStudyOptions {
  std::vector<std::string> forms;  // at least one; the order of the rows
  std::vector<int32_t> tokens;     // at least two; what does not fill a window is left out
  int64_t window = 0;              // tokens of one step; 0: all
  std::string memory = "full(dtype=f32)";
  int64_t decode_context = 128;  // tokens held when decoding is timed
  int64_t decode_tokens = 0;     // of the first window, decoded one by one for that; 0: not timed
  OutlierCriteria criteria;      // of outlier features
};

// Outlier columns of one linear, over the steps of all windows.
struct LinearOutliers {
  int64_t layer;
  std::string weight;
  int64_t columns, outlier_columns;
};

struct WeightStudyRow {
  std::string form;  // with its defaults
  int64_t windows = 0;
  double perplexity = 0, ratio = 1;     // ratio to the reference's
  double ratio_error = 0;               // standard error of ratio, taking tokens as independent
  double top1_agreement = 1;            // share of tokens whose likeliest next one is the same
  double mean_cosine = 1, mean_kl = 0;  // of logits; of next-token distributions, nats
  int64_t weight_bytes = 0, linear_bytes = 0;
  double of_bf16 = 0;                        // linear_bytes to the same weights in 16 bits
  double prefill_rate = 0, decode_rate = 0;  // tokens/s; 0: not measured
  std::vector<LinearOutliers> outliers;      // of int8 forms with int8 activations, else empty

  double outlier_columns() const;  // a window
  int64_t linears_with_outliers() const;
  // Share of outlier columns over the linears of one layer; of all layers for -1.
  double outlier_share(int64_t layer) const;
};

struct WeightStudy {
  WeightStudyRow reference;
  std::vector<WeightStudyRow> rows;
  // Of the inputs of attention and feed-forward [hidden], under the reference.
  std::vector<OutlierFeature> features;
  double outlier_value_share = 0;  // of those inputs' values
  bool interrupted = false;
};

// Called before each form of each window with how many were done and how many there are in all, the
// reference first; false stops. What is complete then: the windows before.
using WeightStudyProgress =
    std::function<bool(int64_t done, int64_t total, const std::string& form)>;

// The default forms: as stored, thresholds 0, 6, 3, 2, 1, weight-only, and the baselines.
std::vector<std::string> weight_study_forms();

// Converts the model to each form in turn and leaves it as stored. Throws Error on a form that
// cannot be, before any work. Holds the reference's logits of a window: tokens x vocabulary floats.
WeightStudy study_weights(DecoderModel& model, ThreadPool& pool, const WeightStudyOptions& options,
                          const WeightStudyProgress& progress = {});

}  // namespace mneme
