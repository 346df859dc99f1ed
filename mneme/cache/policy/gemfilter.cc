#include "mneme/cache/policy/gemfilter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "mneme/cache/paged_memory.h"
#include "mneme/cache/policy/pooling.h"
#include "mneme/core/error.h"
#include "mneme/kernels/select.h"

namespace mneme {
namespace {

// The memory of the first pass: a layer's rows go as soon as it has answered, and the last layer's
// keys meet the text's last query.
class Scan final : public CachePolicy {
 public:
  Scan(const MemoryShape& shape, const GemFilterOptions& options)
      : CachePolicy(shape), options_(options) {}
  std::unique_ptr<CachePolicy> clone() const override { return std::make_unique<Scan>(*this); }
  bool evicts() const override { return true; }
  bool wants_whole_text() const override { return true; }
  int64_t settled_rows(int64_t, int64_t) const override { return 0; }
  void leave(const PolicyStep& step, const SeenWeights&, PolicyRows& rows) override {
    if (step.following > 0) return;  // all of it is read again when the rest has come
    if (step.layer.layer + 1 == shape().layers()) judge(step, rows);
    if (!rows.at_once()) return;
    for (int64_t head = 0; head < shape().kv_heads; ++head) rows.keep(step.layer.layer, head, {});
  }

  std::vector<float> pooled;
  std::vector<int32_t> chosen;

 private:
  void judge(const PolicyStep& step, const PolicyRows& rows) {
    const int64_t dim = shape().k_dim, kv_heads = shape().kv_heads, q_heads = shape().q_heads;
    const float* q = step.layer.q + (step.tokens - 1) * q_heads * dim;
    std::vector<float> k(static_cast<size_t>(dim)), v(static_cast<size_t>(shape().v_dim));
    const auto keys = [&](int64_t j, int64_t head) {
      if (step.first_position == 0) return step.layer.k + (j * kv_heads + head) * dim;
      rows.of(step.layer.layer, head).read(j, k.data(), v.data());
      return static_cast<const float*>(k.data());
    };
    std::vector<double> scores;
    if (options_.softmax) {
      scores.assign(static_cast<size_t>(step.end()), 0.0);
      for (int64_t h = 0; h < q_heads; ++h) {
        const int64_t head = h / (q_heads / kv_heads);
        auto own = gemfilter_scores(q + h * dim, 1, 1, dim, step.end(),
                                    [&](int64_t j, int64_t) { return keys(j, head); });
        const double top = *std::ranges::max_element(own);
        double sum = 0;
        for (double& x : own) sum += x = std::exp((x - top) * double{step.layer.scale});
        for (size_t j = 0; j < own.size(); ++j) scores[j] += own[j] / sum;
      }
    } else {
      scores = gemfilter_scores(q, q_heads, kv_heads, dim, step.end(), keys);
    }
    chosen = gemfilter_choose(scores, options_, options_.keep.of(step.end()), pooled);
  }

  GemFilterOptions options_;
};

const Scan& scan_of(const SequenceMemory& pass) {
  const auto* memory = dynamic_cast<const PagedMemory*>(&pass);
  const auto* scan = memory == nullptr ? nullptr : dynamic_cast<const Scan*>(&memory->policy());
  MNEME_CHECK(scan != nullptr, "gemfilter: the memory is not that of a first pass");
  return *scan;
}

int64_t default_layer(const MemoryShape& shape) {
  const double target = std::round(0.42 * static_cast<double>(shape.layers()));
  int64_t best = -1;
  for (const int64_t layer : shape.layers_that_see_all()) {
    const auto away = [target](int64_t l) { return std::abs(static_cast<double>(l) - target); };
    if (best < 0 || away(layer) < away(best)) best = layer;
  }
  MNEME_CHECK(best >= 0, "gemfilter: every layer of the model has a window of its own");
  return best;
}

}  // namespace

std::vector<int32_t> gemfilter_choose(std::span<const double> scores,
                                      const GemFilterOptions& options, int64_t keep,
                                      std::vector<float>& pooled) {
  pooled.resize(scores.size());
  average_pool(scores, options.pool, pooled);
  const auto count = std::ssize(scores);
  std::vector<float> ranked = pooled;
  for (int64_t i = 0; i < count; ++i) {
    if (i < options.force_first || i >= count - options.force_last)
      ranked[static_cast<size_t>(i)] = std::numeric_limits<float>::infinity();
  }
  std::vector<int32_t> chosen(static_cast<size_t>(std::min(keep, count)));
  SelectScratch scratch;
  select_top_k(ranked, keep, SelectOrder::kIndex, chosen, scratch);
  return chosen;
}

GemFilter::GemFilter(const MemoryShape& shape, const GemFilterOptions& options)
    : shape_(shape), options_(options) {
  if (options_.layer < 0) options_.layer = default_layer(shape);
  const int64_t layer = options_.layer;
  MNEME_CHECK(layer < shape.layers(), "gemfilter: the model has layers 0 to ", shape.layers() - 1,
              ", got layer ", layer);
  MNEME_CHECK(shape.sees_all(layer), "gemfilter: layer ", layer,
              " has a window of its own and does not see the whole text");
  MNEME_CHECK(options.pool > 0 && options.pool % 2 == 1, "gemfilter: expected an odd pool, got ",
              options.pool);
  MNEME_CHECK(options.force_first >= 0 && options.force_last >= 0,
              "gemfilter: forced tokens must not be negative, got ", options.force_first, " and ",
              options.force_last);
  options.keep.check("gemfilter", options.force_first + options.force_last - 1);
  shape_.windows.resize(static_cast<size_t>(layer + 1));
}

int64_t GemFilter::kept(int64_t length) const {
  return std::clamp<int64_t>(options_.keep.of(length),
                             std::min(length, options_.force_first + options_.force_last), length);
}

std::unique_ptr<SequenceMemory> GemFilter::make_pass() const {
  return std::make_unique<PagedMemory>("gemfilter first pass",
                                       RowFormat{.encoding = RowEncoding::kF32},
                                       std::make_unique<Scan>(shape_, options_));
}

std::vector<int32_t> GemFilter::chosen(const SequenceMemory& pass) const {
  return scan_of(pass).chosen;
}

std::span<const float> GemFilter::scores(const SequenceMemory& pass) const {
  return scan_of(pass).pooled;
}

}  // namespace mneme
