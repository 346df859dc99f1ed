#include "mneme/models/weight_format.h"

#include <charconv>
#include <cmath>

#include "mneme/core/error.h"
#include "mneme/core/spec.h"
#include "mneme/kernels/matmul.h"

namespace mneme {
namespace {

class QuantisedLinear final : public Linear {
 public:
  QuantisedLinear(int64_t layer, const TensorView& weight, const Int8Options& options,
                  ThreadPool& pool, const Int8Observer& observer)
      : layer_(layer),
        weight_(weight),
        linear_(
            weight.name, weight.shape[0], weight.shape[1],
            [&](int64_t n, float* to) { dequantize_row(weight, n, to); }, {}, options, pool),
        observer_(observer) {}

  void apply(const float* x, int64_t rows, int64_t x_stride, float* y, int64_t y_stride,
             ThreadPool& pool) const override {
    const Int8Call call = linear_.forward(x, rows, x_stride, y, y_stride, pool);
    if (observer_) observer_({layer_, weight_, x, rows, x_stride, call});
  }
  int64_t owned_bytes() const override { return linear_.bytes(); }
  bool reads_tensor() const override { return false; }
  int64_t workspace_bytes(int64_t rows) const override { return linear_.workspace_bytes(rows); }

 private:
  int64_t layer_;
  const TensorView& weight_;
  Int8Linear linear_;
  Int8Observer observer_;
};

constexpr std::string_view kActivations[] = {"auto", "int8", "float"};  // in the enum's order

double number_of(std::string_view text, const SpecArgument& argument) {
  double value = 0;
  const char* end = argument.value.data() + argument.value.size();
  const auto [stop, error] = std::from_chars(argument.value.data(), end, value);
  if (error != std::errc() || stop != end || !std::isfinite(value) || value < 0) {
    fail(spec_error(text, argument.position,
                    concat(argument.key, " must be 0 (no outliers) or a positive number, got '",
                           argument.value, "'")));
  }
  return value;
}

// The index of the argument's value among `choices`.
template <size_t kCount>
size_t choice_of(std::string_view text, const SpecArgument& argument,
                 const std::string_view (&choices)[kCount]) {
  std::string names;
  for (size_t i = 0; i < kCount; ++i) {
    if (argument.value == choices[i]) return i;
    names += concat(i == 0 ? "" : i + 1 == kCount ? " or " : ", ", choices[i]);
  }
  fail(spec_error(text, argument.position,
                  concat(argument.key, " must be ", names, ", got '", argument.value, "'")));
}

}  // namespace

std::string WeightFormat::text() const {
  if (kind == Kind::kFile) return "file";
  if (kind == Kind::kFloat) return "float";
  return concat("int8(threshold=", int8.threshold,
                ",activations=", kActivations[static_cast<size_t>(int8.activations)],
                ",keep_original=", int8.keep_original ? "true" : "false", ")");
}

WeightFormat parse_weight_format(std::string_view text) {
  const Spec spec = parse_spec(text);
  const SpecTerm& term = spec.terms.front();
  if (spec.terms.size() > 1) {
    fail(spec_error(text, spec.terms[1].position, "weights have one form, it cannot be joined"));
  }
  if (term.name != "file" && term.name != "float" && term.name != "int8") {
    fail(spec_error(
        text, term.position,
        concat("unknown form of weights '", term.name, "', expected file, float or int8")));
  }
  WeightFormat format;
  if (term.name == "float") format.kind = WeightFormat::Kind::kFloat;
  if (term.name == "int8") format.kind = WeightFormat::Kind::kInt8;
  for (const SpecArgument& argument : term.arguments) {
    if (format.kind != WeightFormat::Kind::kInt8) {
      fail(spec_error(text, argument.position, concat(term.name, " has no parameters")));
    } else if (argument.key == "threshold") {
      format.int8.threshold = number_of(text, argument);
    } else if (argument.key == "activations") {
      format.int8.activations =
          static_cast<Int8Options::Activations>(choice_of(text, argument, kActivations));
    } else if (argument.key == "keep_original") {
      constexpr std::string_view kAnswers[] = {"false", "true"};
      format.int8.keep_original = choice_of(text, argument, kAnswers) == 1;
    } else {
      fail(spec_error(text, argument.position,
                      concat("int8 has no parameter '", argument.key,
                             "', only threshold, activations and keep_original")));
    }
  }
  return format;
}

void set_weight_format(DecoderModel& model, const WeightFormat& format, ThreadPool& pool,
                       const Int8Observer& observer) {
  if (format.kind == WeightFormat::Kind::kFloat) return model.use_float_products();
  // The output layer has the same form beside int8 layers as beside the file's.
  if (format.kind == WeightFormat::Kind::kFile || model.linear_form() == "float")
    model.use_stored_weights(pool);
  if (format.kind == WeightFormat::Kind::kFile) return;
  const auto make = [&](int64_t layer, const TensorView& weight) -> std::unique_ptr<Linear> {
    return std::make_unique<QuantisedLinear>(layer, weight, format.int8, pool, observer);
  };
  model.set_linears(make, format.text());
}

std::string weight_format_card() {
  return R"(int8(threshold=6,activations=auto,keep_original=false)
  a form of the weights: mneme run --weights int8 (default: file, as stored in the model's file)

  paper   LLM.int8(), Dettmers et al. 2022, arXiv 2208.07339; codes and scales as bitsandbytes
  what    Every linear layer of every decoder layer: per output row n, SCB[n] = max |W[n,:]| and codes
          CB = round(W * 127 / SCB). Embedding, output layer and norms stay as they are.
  bytes   1 + 8/in a weight: a quarter of float32, half of bf16. A file with 4 or 5 bits a weight is
          smaller than that: int8 serves 16- and 32-bit files, and the study of the method.
  source  mneme/kernels/int8_linear.h

  threshold=6           Activations of that magnitude or more are outliers: their columns are
                        multiplied in float, the others in int8 with one scale a token. 0: no column.
                        Lower is better and slower.
  activations=auto      int8: quantise them as above. float: weight-only, they keep the precision of
                        float32 (three int8 digits a value, exact integer products). auto: float for a
                        single token, int8 for more.
  keep_original=false   true: outlier columns use the weights from before quantisation, as in the paper;
                        costs 4 bytes a weight.

  Why decoding is weight-only: a step with one token reads every weight once and computes little, so
  it takes as long as reading the bytes, one a weight in both forms. Quantised activations would cost
  quality there (mneme weights --file TEXT shows how much) and save no time. A prompt uses each weight
  for many tokens: there int8 arithmetic is what counts.

  Outlier columns are those of all tokens of one step, so a prompt at once and token by token differ
  in the last digits. activations=float gives a token the same bits in any company.
)";
}

}  // namespace mneme
