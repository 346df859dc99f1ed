#include "mneme/cache/policy/delta.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/select.h"

namespace mneme {
namespace {

constexpr float kPositionBias = 1e-7f;

}  // namespace

std::vector<DeltaRole> delta_roles(std::span<const int64_t> full_layers, int64_t layers) {
  MNEME_CHECK(!full_layers.empty() && full_layers.front() == 0,
              "delta: layer 0 must be among the full layers");
  std::vector<DeltaRole> roles(static_cast<size_t>(layers), DeltaRole::kSparse);
  int64_t before = -1;
  for (const int64_t layer : full_layers) {
    MNEME_CHECK(layer > before && layer < layers, "delta: full layers must increase and lie below ",
                layers, ", got ", layer, " after ", before);
    before = layer;
    roles[static_cast<size_t>(layer)] = DeltaRole::kFull;
  }
  for (size_t layer = 0; layer + 1 < roles.size(); ++layer) {
    if (roles[layer] == DeltaRole::kFull && roles[layer + 1] == DeltaRole::kSparse)
      roles[layer] = DeltaRole::kSelect;
  }
  return roles;
}

std::vector<int64_t> delta_default_layers(int64_t layers) {
  const int64_t first =
      std::min(layers, std::max<int64_t>(2, std::lround(0.1 * static_cast<double>(layers))));
  std::vector<int64_t> full(static_cast<size_t>(first));
  std::iota(full.begin(), full.end(), int64_t{0});
  for (const double depth : {0.5, 0.8}) {
    const int64_t layer = std::lround(depth * static_cast<double>(layers - 1));
    if (layer > full.back()) full.push_back(layer);
  }
  return full;
}

void delta_page_scores(const SeenWeights& seen, int64_t q_heads, int64_t rows, int64_t page,
                       std::vector<float>& scores) {
  scores.assign(static_cast<size_t>(ceil_div(rows, page)), 0.0f);
  const float* weights = seen.weights + (seen.queries - 1) * q_heads * seen.stride;
  for (int64_t first = 0; first < rows; first += page) {
    float sum = 0;
    for (int64_t row = first; row < std::min(rows, first + page); ++row) {
      float most = 0;
      for (int64_t h = 0; h < q_heads; ++h) most = std::max(most, weights[h * seen.stride + row]);
      sum += most;
    }
    scores[static_cast<size_t>(first / page)] = sum;
  }
}

void delta_select(std::span<float> scores, int64_t pages, int64_t recent, float position_bias,
                  std::vector<int32_t>& chosen) {
  thread_local SelectScratch scratch;
  const auto count = std::ssize(scores);
  if (count <= pages) {
    chosen.resize(scores.size());
    std::iota(chosen.begin(), chosen.end(), 0);
    return;
  }
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  for (int64_t i = 0; i < count; ++i) {
    float& score = scores[static_cast<size_t>(i)];
    score -= position_bias * static_cast<float>(i);
    if (std::isnan(score)) score = -kInfinity;
    if (i >= count - recent) score = kInfinity;
  }
  chosen.resize(static_cast<size_t>(pages));
  select_top_k(scores, pages, SelectOrder::kIndex, chosen, scratch);
}

Delta::Delta(const MemoryShape& shape, const DeltaOptions& options)
    : BlockReading(shape, options.page, options.pages), options_(options) {
  MNEME_CHECK(options.page >= 1, "delta: a page must hold rows, got ", options.page);
  MNEME_CHECK(options.pages >= 1, "delta: at least one page must be read, got ", options.pages);
  MNEME_CHECK(options.recent >= 0, "delta: recent pages must not be negative, got ",
              options.recent);
  // Roles run over the layers without a window of their own.
  const std::vector<int64_t> global = shape.layers_that_see_all();
  MNEME_CHECK(!global.empty(), "delta: every layer of the model has a window of its own");
  std::vector<int64_t> full;
  for (const int64_t layer : options.full_layers) {
    const auto at = std::ranges::find(global, layer);
    MNEME_CHECK(at != global.end(), "delta: layer ", layer,
                " does not exist or has a window of its own");
    full.push_back(at - global.begin());
  }
  const auto count = std::ssize(global);
  const auto roles = delta_roles(full.empty() ? delta_default_layers(count) : full, count);
  roles_.assign(static_cast<size_t>(shape.layers()), DeltaRole::kFull);
  sources_.assign(roles_.size(), -1);
  int64_t selector = -1;
  for (size_t i = 0; i < global.size(); ++i) {
    const auto layer = static_cast<size_t>(global[i]);
    roles_[layer] = roles[i];
    if (roles[i] == DeltaRole::kSelect) selector = global[i];
    if (roles[i] == DeltaRole::kSparse) sources_[layer] = selector;
  }
}

void Delta::choose(const SeenWeights& seen, int64_t rows, std::vector<int32_t>& chosen) {
  delta_page_scores(seen, shape().q_heads, rows, options_.page, scores_);
  delta_select(scores_, options_.pages, options_.recent, kPositionBias, chosen);
}

}  // namespace mneme
