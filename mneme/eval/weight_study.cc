#include "mneme/eval/weight_study.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>

#include "mneme/cache/memory_registry.h"
#include "mneme/core/error.h"
#include "mneme/eval/log_probability.h"
#include "mneme/eval/weight_study_linears.h"
#include "mneme/models/weight_format.h"
#include "mneme/runtime/session.h"

namespace mneme {
namespace {

constexpr std::array<std::pair<std::string_view, Int8Method>, 4> kBaselines = {
    {{"absmax-tensor", Int8Method::kTensor},
     {"absmax-row", Int8Method::kRow},
     {"absmax-vector", Int8Method::kVector},
     {"zeropoint", Int8Method::kZeroPoint}}};

std::optional<Int8Method> baseline_of(const std::string& form) {
  for (const auto& [name, method] : kBaselines) {
    if (form == name) return method;
  }
  return std::nullopt;
}

// Queries and gates read all that attention and feed-forward get; keys, values and the rest of the
// products would count the same values again.
bool reads_block_input(const TensorView& weight) {
  for (const char* role : {"attn_q.", "q_proj.", "ffn_gate.", "gate_proj."}) {
    if (weight.name.find(role) != std::string::npos) return true;
  }
  return false;
}

double cosine(std::span<const float> a, std::span<const float> b) {
  double product = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    product += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return product / std::sqrt(aa * bb);
}

// Sums of one form over tokens and windows.
struct Totals {
  double nll = 0, kl = 0, cosines = 0, seconds = 0, decode_rate = 0;
  // Of each scored token's nll less the reference's.
  double difference = 0, squares = 0;
  int64_t scored = 0, tokens = 0, same = 0, windows = 0;
  WeightStudyRow row;

  void finish(int64_t weights) {
    const auto count = static_cast<double>(tokens), pairs = static_cast<double>(scored);
    const double mean = difference / pairs;
    row.windows = windows;
    row.perplexity = std::exp(nll / pairs);
    row.ratio = std::exp(mean);
    const double variance = std::max(0.0, squares / pairs - mean * mean);
    row.ratio_error = row.ratio * std::sqrt(variance / pairs);
    row.top1_agreement = static_cast<double>(same) / count;
    row.mean_cosine = cosines / count;
    row.mean_kl = kl / count;
    row.of_bf16 = static_cast<double>(row.linear_bytes) / (2.0 * static_cast<double>(weights));
    row.prefill_rate = count / seconds;
    row.decode_rate = decode_rate;
  }
};

class Study {
 public:
  Study(DecoderModel& model, ThreadPool& pool, const WeightStudyOptions& options)
      : model_(model), pool_(pool), options_(options) {}

  // All rows of logits of one window in one step, [tokens, vocabulary].
  std::vector<float> logits(std::span<const int32_t> tokens, Totals& totals) const {
    Session whole = session();
    std::vector<float> rows;
    rows.reserve(tokens.size() * static_cast<size_t>(model_.config().vocabulary));
    const auto start = std::chrono::steady_clock::now();
    whole.append_visiting(
        tokens, static_cast<int64_t>(tokens.size()),
        [&](int64_t position, std::span<const float> row) {
          if (position == 0) {  // the step is done
            totals.seconds +=
                std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
          }
          rows.insert(rows.end(), row.begin(), row.end());
        });
    return rows;
  }

  // Adds a window of the form the model has now; `logits` is what it gave.
  void add(std::span<const int32_t> tokens, const std::vector<float>& logits,
           const std::vector<float>& reference, Totals& totals) const {
    const auto vocabulary = static_cast<size_t>(model_.config().vocabulary);
    for (size_t i = 0; i < tokens.size(); ++i) {
      const auto got = std::span(logits).subspan(i * vocabulary, vocabulary);
      const auto want = std::span(reference).subspan(i * vocabulary, vocabulary);
      totals.same += std::ranges::max_element(got) - got.begin() ==
                     std::ranges::max_element(want) - want.begin();
      totals.cosines += cosine(got, want);
      totals.kl += kl_divergence_of(want, got);
      if (i + 1 == tokens.size()) break;
      const double nll = -log_probability(got, tokens[i + 1]);
      const double difference = nll + log_probability(want, tokens[i + 1]);
      totals.nll += nll;
      totals.difference += difference;
      totals.squares += difference * difference;
      ++totals.scored;
    }
    totals.tokens += static_cast<int64_t>(tokens.size());
    totals.row.form = model_.linear_form();
    totals.row.weight_bytes = model_.weight_bytes();
    totals.row.linear_bytes = model_.linear_bytes();
    if (totals.windows++ == 0) totals.decode_rate = decode_rate(tokens);
  }

 private:
  Session session() const {
    return {model_, pool_, MemoryRegistry::builtin().build(options_.memory, model_.memory_shape())};
  }

  double decode_rate(std::span<const int32_t> tokens) const {
    if (options_.decode_tokens == 0) return 0;
    Session held = session();
    const auto context = static_cast<size_t>(options_.decode_context);
    const auto more = static_cast<size_t>(options_.decode_tokens);
    held.append(tokens.first(context));
    const auto start = std::chrono::steady_clock::now();
    held.append(tokens.subspan(context, more), 1);
    return static_cast<double>(more) /
           std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  }

  DecoderModel& model_;
  ThreadPool& pool_;
  const WeightStudyOptions& options_;
};

int64_t window_of(const WeightStudyOptions& options) {
  return options.window > 0 ? options.window : static_cast<int64_t>(options.tokens.size());
}

void check(const WeightStudyOptions& options) {
  MNEME_CHECK(!options.forms.empty(), "weight study: no form of weights is given");
  const auto total = static_cast<int64_t>(options.tokens.size());
  MNEME_CHECK(options.window >= 0, "weight study: the window must not be negative, got ",
              options.window);
  const int64_t window = window_of(options);
  MNEME_CHECK(window >= 2, "weight study: a window of at least 2 tokens is needed, got ", window);
  MNEME_CHECK(total >= window, "weight study: a text of at least ", window,
              " tokens is needed, got ", total);
  MNEME_CHECK(options.decode_tokens >= 0 && options.decode_context >= 1,
              "weight study: decoding must not be negative, got ", options.decode_tokens,
              " tokens after ", options.decode_context);
  MNEME_CHECK(
      options.decode_tokens == 0 || options.decode_context + options.decode_tokens <= window,
      "weight study: decoding ", options.decode_tokens, " tokens after ", options.decode_context,
      " needs a longer window than ", window, " tokens");
  for (const std::string& form : options.forms) {
    if (!baseline_of(form)) parse_weight_format(form);
  }
}

// The same linear of another window.
void merge(std::vector<LinearOutliers>& into, const std::vector<LinearOutliers>& more) {
  if (into.empty()) {
    into = more;
    return;
  }
  MNEME_ASSERT(into.size() == more.size());
  for (size_t i = 0; i < more.size(); ++i) {
    into[i].columns += more[i].columns;
    into[i].outlier_columns += more[i].outlier_columns;
  }
}

}  // namespace

double WeightStudyRow::outlier_columns() const {
  int64_t sum = 0;
  for (const LinearOutliers& one : outliers) sum += one.outlier_columns;
  return windows == 0 ? 0 : static_cast<double>(sum) / static_cast<double>(windows);
}

int64_t WeightStudyRow::linears_with_outliers() const {
  return std::ranges::count_if(outliers,
                               [](const LinearOutliers& one) { return one.outlier_columns > 0; });
}

double WeightStudyRow::outlier_share(int64_t layer) const {
  int64_t columns = 0, found = 0;
  for (const LinearOutliers& one : outliers) {
    if (layer >= 0 && one.layer != layer) continue;
    columns += one.columns;
    found += one.outlier_columns;
  }
  return columns == 0 ? 0 : static_cast<double>(found) / static_cast<double>(columns);
}

std::vector<std::string> weight_study_forms() {
  std::vector<std::string> forms = {"file"};
  for (const char* threshold : {"0", "6", "3", "2", "1"})
    forms.push_back(concat("int8(threshold=", threshold, ")"));
  forms.emplace_back("int8(activations=float)");
  for (const auto& [name, method] : kBaselines) forms.emplace_back(name);
  return forms;
}

WeightStudy study_weights(DecoderModel& model, ThreadPool& pool, const WeightStudyOptions& options,
                          const WeightStudyProgress& progress) {
  check(options);
  const Study study(model, pool, options);
  const int64_t window = window_of(options);
  const auto windows = static_cast<int64_t>(options.tokens.size()) / window;
  const int64_t total = windows * (static_cast<int64_t>(options.forms.size()) + 1);
  int64_t done = 0;
  WeightStudy result;
  OutlierFeatures features(model.config().hidden, options.criteria);
  Totals reference_totals;
  std::vector<Totals> totals(options.forms.size());
  int64_t weights = 0;
  const auto go_on = [&](const std::string& form) {
    result.interrupted = progress && !progress(done++, total, form);
    return !result.interrupted;
  };
  const auto run_window = [&](std::span<const int32_t> tokens, std::vector<Totals>& into) {
    if (!go_on("float")) return;
    weights = 0;
    model.set_linears(
        [&](int64_t layer, const TensorView& weight) -> std::unique_ptr<Linear> {
          weights += weight.elements();
          if (!reads_block_input(weight)) return float_linear(weight);
          return std::make_unique<WatchedLinear>(layer, weight, features);
        },
        "float");
    const std::vector<float> reference = study.logits(tokens, reference_totals);
    model.set_linears([](int64_t, const TensorView& weight) { return float_linear(weight); },
                      "float");
    study.add(tokens, reference, reference, reference_totals);
    for (size_t i = 0; i < options.forms.size(); ++i) {
      const std::string& form = options.forms[i];
      if (!go_on(form)) return;
      std::vector<LinearOutliers> outliers;
      bool recording = true;
      if (const auto method = baseline_of(form)) {
        model.set_linears(
            [&](int64_t, const TensorView& weight) -> std::unique_ptr<Linear> {
              return std::make_unique<BaselineLinear>(weight, *method, pool);
            },
            form);
      } else {
        set_weight_format(model, parse_weight_format(form), pool, [&](const Int8Observation& seen) {
          if (!recording || !seen.call.quantised) return;
          outliers.push_back(
              {seen.layer, seen.weight.name, seen.weight.shape[1], seen.call.outlier_columns});
        });
      }
      const std::vector<float> logits = study.logits(tokens, into[i]);
      recording = false;
      study.add(tokens, logits, reference, into[i]);
      merge(into[i].row.outliers, outliers);
      set_weight_format(model, {}, pool);
    }
  };
  try {
    for (int64_t at = 0; at < windows; ++at) {
      std::vector<Totals> so_far = totals;
      const Totals reference_before = reference_totals;
      run_window(std::span(options.tokens)
                     .subspan(static_cast<size_t>(at * window), static_cast<size_t>(window)),
                 so_far);
      if (result.interrupted) {  // the window is not complete
        reference_totals = reference_before;
        break;
      }
      totals = std::move(so_far);
    }
  } catch (...) {
    set_weight_format(model, {}, pool);  // no linear may outlive what it observes for
    throw;
  }
  set_weight_format(model, {}, pool);
  result.features = features.features();
  if (features.values() > 0) {
    result.outlier_value_share =
        static_cast<double>(features.outlier_values()) / static_cast<double>(features.values());
  }
  if (totals.front().windows == 0) return result;
  reference_totals.finish(weights);
  result.reference = reference_totals.row;
  for (Totals& form : totals) {
    form.finish(weights);
    result.rows.push_back(std::move(form.row));
  }
  return result;
}

}  // namespace mneme
