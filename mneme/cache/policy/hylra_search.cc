#include "mneme/cache/policy/hylra_search.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <tuple>

#include "mneme/core/checked.h"
#include "mneme/core/error.h"
#include "mneme/kernels/select.h"

namespace mneme {
namespace {

// Linear between the neighbours in order, as numpy does it.
double quantile(std::vector<double> values, double q) {
  std::ranges::sort(values);
  const double at = q * static_cast<double>(values.size() - 1);
  const auto low = static_cast<size_t>(at);
  const size_t high = std::min(low + 1, values.size() - 1);
  return values[low] + (at - static_cast<double>(low)) * (values[high] - values[low]);
}

std::vector<double> block_sums(const HylraWeights& weights, int64_t block) {
  std::vector<double> sums(static_cast<size_t>(ceil_div(std::ssize(weights), block)));
  for (size_t row = 0; row < weights.size(); ++row)
    sums[row / static_cast<size_t>(block)] += weights[row];
  return sums;
}

double energy_ratio(std::vector<double> sums, double energy) {
  const double total = std::accumulate(sums.begin(), sums.end(), 0.0);
  std::ranges::sort(sums, std::greater<>());
  double reached = 0;
  int64_t blocks = 0;
  for (const double sum : sums) {
    reached += sum / total;
    if (reached > energy) break;
    ++blocks;
  }
  return static_cast<double>(blocks) / static_cast<double>(sums.size());
}

std::vector<bool> chosen_blocks(const std::vector<double>& sums,
                                const HylraProfileOptions& options) {
  const auto count = std::ssize(sums);
  const int64_t sink = options.sink / options.block, recent = options.recent / options.block;
  std::vector<float> scores(sums.begin(), sums.end());
  for (int64_t i = 0; i < count; ++i) {
    if (i < sink || i >= count - recent)
      scores[static_cast<size_t>(i)] = std::numeric_limits<float>::infinity();
  }
  SelectScratch scratch;
  const int64_t keep = std::min(options.preserved / options.block, count);
  std::vector<int32_t> best(static_cast<size_t>(keep));
  select_top_k(scores, keep, SelectOrder::kIndex, best, scratch);
  std::vector<bool> chosen(sums.size());
  for (const int32_t i : best) chosen[static_cast<size_t>(i)] = true;
  return chosen;
}

}  // namespace

HylraProfile::HylraProfile(int64_t layers, int64_t kv_heads, const HylraProfileOptions& options)
    : layers_(layers),
      kv_heads_(kv_heads),
      options_(options),
      ratios_(static_cast<size_t>(kv_heads)),
      overlap_(static_cast<size_t>(kv_heads),
               std::vector<double>(static_cast<size_t>(layers * layers))) {
  MNEME_CHECK(layers > 0 && kv_heads > 0, "hylra profile: expected layers and heads, got ", layers,
              " and ", kv_heads);
  MNEME_CHECK(options.block > 0 && options.preserved >= options.block,
              "hylra profile: expected blocks of rows and at least one block preserved, got ",
              options.block, " and ", options.preserved);
  MNEME_CHECK(
      options.energy > 0 && options.energy < 1 && options.sparsity >= 0 && options.sparsity <= 1,
      "hylra profile: expected energy within (0, 1) and sparsity within [0, 1], got ",
      options.energy, " and ", options.sparsity);
}

void HylraProfile::add(const std::vector<std::vector<HylraWeights>>& weights) {
  MNEME_CHECK(std::ssize(weights) == layers_, "hylra profile: expected ", layers_, " layers, got ",
              weights.size());
  for (int64_t head = 0; head < kv_heads_; ++head) {
    std::vector<double> ratios;
    std::vector<std::vector<bool>> masks;
    for (const auto& layer : weights) {
      const std::vector<double> sums =
          block_sums(layer.at(static_cast<size_t>(head)), options_.block);
      ratios.push_back(energy_ratio(sums, options_.energy));
      masks.push_back(chosen_blocks(sums, options_));
    }
    ratios_[static_cast<size_t>(head)].push_back(std::move(ratios));
    std::vector<double>& overlap = overlap_[static_cast<size_t>(head)];
    for (int64_t i = 0; i < layers_; ++i) {
      for (int64_t j = i + 1; j < layers_; ++j) {
        const auto& source = masks[static_cast<size_t>(i)];
        const auto& reader = masks[static_cast<size_t>(j)];
        int64_t both = 0, all = 0;
        for (size_t block = 0; block < reader.size(); ++block) {
          all += reader[block];
          both += reader[block] && source[block];
        }
        overlap[static_cast<size_t>(i * layers_ + j)] +=
            static_cast<double>(both) / static_cast<double>(all);
      }
    }
  }
  ++steps_;
}

std::vector<double> HylraProfile::sensitivity() const {
  MNEME_CHECK(steps_ > 0, "hylra profile: no step was added");
  std::vector<double> mean(static_cast<size_t>(layers_));
  for (const auto& steps : ratios_) {
    for (size_t layer = 0; layer < mean.size(); ++layer) {
      std::vector<double> values;
      for (const auto& step : steps) values.push_back(step[layer]);
      const double low = quantile(values, 0.25), high = quantile(values, 0.75);
      const double reach = 1.5 * (high - low);
      double sum = 0;
      for (const double value : values) sum += std::clamp(value, low - reach, high + reach);
      mean[layer] += sum / static_cast<double>(steps_) / static_cast<double>(kv_heads_);
    }
  }
  return mean;
}

std::vector<int64_t> HylraProfile::sensitive_layers() const {
  const std::vector<double> mean = sensitivity();
  std::vector<int64_t> order(mean.size());
  std::iota(order.begin(), order.end(), int64_t{0});
  std::ranges::stable_sort(order, [&](int64_t a, int64_t b) {
    return mean[static_cast<size_t>(a)] > mean[static_cast<size_t>(b)];
  });
  // 6 * (1 - 0.6) is a little more than 2.4; 10 * (1 - 0.9) must not become 2.
  const double share = static_cast<double>(layers_) * (1 - options_.sparsity);
  order.resize(static_cast<size_t>(std::ceil(share - 1e-9)));
  std::ranges::sort(order);
  return order;
}

std::vector<double> HylraProfile::overlap(int64_t head) const {
  std::vector<double> mean = overlap_.at(static_cast<size_t>(head));
  for (double& value : mean) value /= static_cast<double>(std::max<int64_t>(1, steps_));
  for (int64_t i = 0; i < layers_; ++i) mean[static_cast<size_t>(i * layers_ + i)] = 1;
  return mean;
}

std::vector<double> HylraProfile::least_overlap() const {
  std::vector<double> least = overlap(0);
  for (int64_t head = 1; head < kv_heads_; ++head) {
    const std::vector<double> other = overlap(head);
    for (size_t i = 0; i < least.size(); ++i) least[i] = std::min(least[i], other[i]);
  }
  return least;
}

std::vector<int64_t> hylra_plan_by_threshold(std::span<const double> overlap, int64_t layers,
                                             double theta, std::span<const int64_t> sensitive) {
  MNEME_CHECK(layers > 0 && std::ssize(overlap) == layers * layers, "hylra: expected overlaps of ",
              layers, " x ", layers, " layers, got ", overlap.size());
  MNEME_CHECK(theta > 0 && theta <= 1, "hylra: theta must lie within (0, 1], got ", theta);
  // State: the source after layer j. Fewer full layers first, then the larger sum.
  struct State {
    int64_t full = 0;
    double sum = 0;
    int64_t previous = -1;  // source before layer j; -1: there is no such state
    bool possible = false;
    bool better_than(const State& other) const {
      return !other.possible || full < other.full || (full == other.full && sum > other.sum);
    }
  };
  const auto n = static_cast<size_t>(layers);
  std::vector<std::vector<State>> best(n, std::vector<State>(n));
  best[0][0] = {1, 0, -1, true};
  for (size_t j = 1; j < n; ++j) {
    const bool must = std::ranges::find(sensitive, static_cast<int64_t>(j)) != sensitive.end();
    for (size_t i = 0; i < j; ++i) {
      const State& from = best[j - 1][i];
      if (!from.possible) continue;
      const auto source = static_cast<int64_t>(i);
      const State reset = {from.full + 1, from.sum, source, true};
      if (reset.better_than(best[j][j])) best[j][j] = reset;
      const double worth = overlap[i * n + j];
      if (!must && worth >= theta) best[j][i] = {from.full, from.sum + worth, source, true};
    }
  }
  size_t source = 0;
  State last;
  for (size_t i = 0; i < n; ++i) {
    if (!best[n - 1][i].possible || !best[n - 1][i].better_than(last)) continue;
    last = best[n - 1][i];
    source = i;
  }
  std::vector<int64_t> plan(n);
  for (size_t j = n; j-- > 0;) {
    plan[j] = source == j ? -1 : static_cast<int64_t>(source);
    if (j > 0) source = static_cast<size_t>(best[j][source].previous);
  }
  return plan;
}

HylraBudgetPlan hylra_plan_by_budget(std::span<const double> overlap, int64_t layers,
                                     int64_t max_changes) {
  MNEME_CHECK(layers > 0 && std::ssize(overlap) == layers * layers, "hylra: expected overlaps of ",
              layers, " x ", layers, " layers, got ", overlap.size());
  MNEME_CHECK(max_changes >= 0, "hylra: the number of changes must not be negative, got ",
              max_changes);
  struct State {
    double least = -1, sum = -1;  // below any real walk
    int64_t previous = -1;
    bool worse_than(double other_least, double other_sum) const {
      return std::tie(least, sum) < std::tie(other_least, other_sum);
    }
  };
  const auto n = static_cast<size_t>(layers);
  const auto changes = static_cast<size_t>(std::min(max_changes, layers - 1)) + 1;
  // [layer][source][changes so far]
  std::vector<std::vector<std::vector<State>>> best(
      n, std::vector<std::vector<State>>(n, std::vector<State>(changes)));
  best[0][0][0] = {1, 1, -1};
  for (size_t j = 1; j < n; ++j) {
    for (size_t i = 0; i < j; ++i) {
      for (size_t c = 0; c < changes; ++c) {
        const State& from = best[j - 1][i][c];
        if (from.sum < 0) continue;
        const double worth = overlap[i * n + j];
        const auto extend = [&](State& to, double value) {
          const double least = std::min(from.least, value), sum = from.sum + value;
          if (to.worse_than(least, sum)) to = {least, sum, static_cast<int64_t>(i)};
        };
        extend(best[j][i][c], worth);
        if (c + 1 < changes) extend(best[j][j][c + 1], 1);
      }
    }
  }
  State last;
  size_t source = 0, used = 0;
  for (size_t i = 0; i < n; ++i) {
    for (size_t c = 0; c < changes; ++c) {
      const State& state = best[n - 1][i][c];
      if (state.sum < 0 || !last.worse_than(state.least, state.sum)) continue;
      last = state;
      source = i;
      used = c;
    }
  }
  HylraBudgetPlan result{std::vector<int64_t>(n), last.least, last.sum};
  for (size_t j = n; j-- > 0;) {
    const State& state = best[j][source][used];
    const bool full = source == j;
    result.plan[j] = full ? -1 : static_cast<int64_t>(source);
    if (j == 0) break;
    source = static_cast<size_t>(state.previous);
    used -= full ? 1 : 0;
  }
  return result;
}

void check_hylra_plan(std::span<const int64_t> plan, int64_t layers) {
  MNEME_CHECK(std::ssize(plan) == layers, "hylra: the plan is for ", plan.size(),
              " layers, the model has ", layers);
  for (int64_t layer = 0; layer < layers; ++layer) {
    const int64_t source = plan[static_cast<size_t>(layer)];
    if (source == -1) continue;
    MNEME_CHECK(source >= 0 && source < layer && plan[static_cast<size_t>(source)] == -1,
                "hylra: layer ", layer, " cannot read what layer ", source,
                " chose: expected -1 or an earlier layer that is -1 itself");
  }
}

}  // namespace mneme
