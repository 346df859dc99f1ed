#include "mneme/cache/policy/cake.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "mneme/cache/policy/policy_state.h"
#include "mneme/cache/policy/pooling.h"
#include "mneme/core/error.h"
#include "mneme/kernels/select.h"

namespace mneme {
namespace {

thread_local SelectScratch select_scratch;

// Indices of the `count` best scores.
std::vector<int32_t> best(std::span<const float> scores, int64_t count, SelectOrder order) {
  std::vector<int32_t> indices(static_cast<size_t>(std::min(count, std::ssize(scores))));
  select_top_k(scores, count, order, indices, select_scratch);
  return indices;
}

// Spreads `amount` over the layers that are `eligible`: equal parts, the first ones take the rest.
template <typename Eligible>
void spread(std::vector<int64_t>& budgets, int64_t amount, const Eligible& eligible) {
  std::vector<size_t> takers;
  for (size_t i = 0; i < budgets.size(); ++i)
    if (eligible(budgets[i])) takers.push_back(i);
  if (takers.empty() || amount == 0) return;
  const int64_t sign = amount < 0 ? -1 : 1, whole = amount * sign;
  const auto count = std::ssize(takers);
  for (int64_t i = 0; i < count; ++i)
    budgets[takers[static_cast<size_t>(i)]] += sign * (whole / count + (i < whole % count ? 1 : 0));
}

}  // namespace

double CakeScores::preference(const CakeOptions& options) const {
  return std::pow(entropy, 1 / options.tau1) * std::pow(variance, 1 / options.tau2);
}

CakeScores cake_scores(const SeenWeights& seen, int64_t q_heads, int64_t kv_heads, int64_t rows,
                       const CakeOptions& options) {
  const int64_t queries = seen.queries, n = rows - queries, ratio = q_heads / kv_heads;
  MNEME_CHECK(queries >= 2, "cake: a variance needs at least 2 queries, got ", queries);
  MNEME_CHECK(n > 0, "cake: nothing lies before the window of ", queries, " in ", rows, " rows");
  CakeScores scores;
  scores.indicator.assign(static_cast<size_t>(kv_heads),
                          std::vector<float>(static_cast<size_t>(n)));
  const auto size = static_cast<size_t>(n);
  std::vector<double> sum(size), squares(size), value(size);
  std::vector<float> pooled(size);
  for (int64_t h = 0; h < q_heads; ++h) {
    std::fill(sum.begin(), sum.end(), 0.0);
    std::fill(squares.begin(), squares.end(), 0.0);
    for (int64_t q = 0; q < queries; ++q) {
      const float* weights = seen.row(q, q_heads, h, n).data();
      double entropy = 0;
      for (size_t j = 0; j < size; ++j) {
        const double a = weights[j];
        // Weights of nothing add nothing; most rows of a long text are such.
        if (a > 0) entropy -= a * std::log(a + 1e-10);
        sum[j] += a;
      }
      scores.entropy += entropy;
    }
    // Deviations from the mean, not differences of squares: variances are tiny beside them.
    for (int64_t q = 0; q < queries; ++q) {
      const float* weights = seen.row(q, q_heads, h, n).data();
      for (size_t j = 0; j < size; ++j) {
        const double away = weights[j] - sum[j] / static_cast<double>(queries);
        squares[j] += away * away;
      }
    }
    for (size_t j = 0; j < size; ++j) {
      const double variance = squares[j] / static_cast<double>(queries - 1);
      scores.variance += variance;
      value[j] = sum[j] / static_cast<double>(queries) + options.gamma * variance;
    }
    average_pool(value, options.pool, pooled);
    std::vector<float>& indicator = scores.indicator[static_cast<size_t>(h / ratio)];
    for (size_t j = 0; j < size; ++j) indicator[j] += pooled[j] / static_cast<float>(ratio);
  }
  return scores;
}

std::vector<int64_t> cake_adjust(std::span<const double> shares, int64_t total, int64_t cap) {
  std::vector<int64_t> budgets(shares.size());
  int64_t excess = 0;
  for (size_t i = 0; i < shares.size(); ++i) {
    const auto whole = static_cast<int64_t>(shares[i]);
    budgets[i] = std::min(whole, cap);
    excess += whole - budgets[i];
  }
  const auto below = [cap](int64_t budget) { return budget < cap; };
  spread(budgets, excess, below);
  const int64_t left = total - std::accumulate(budgets.begin(), budgets.end(), int64_t{0});
  if (left > 0) spread(budgets, left, below);
  if (left < 0) spread(budgets, left, [](int64_t budget) { return budget > 1; });
  return budgets;
}

std::vector<int64_t> cake_budgets(std::span<const double> preferences, int64_t total, int64_t cap) {
  const double sum = std::accumulate(preferences.begin(), preferences.end(), 0.0);
  std::vector<double> shares(preferences.size());
  for (size_t i = 0; i < shares.size(); ++i) {
    shares[i] = sum > 0 && std::isfinite(sum)
                    ? preferences[i] / sum * static_cast<double>(total)
                    : static_cast<double>(total) / static_cast<double>(shares.size());
  }
  return cake_adjust(shares, total, cap);
}

void cake_decode_scores(const SeenWeights& seen, int64_t q_heads, int64_t kv_heads, int64_t head,
                        std::span<const int64_t> order, int64_t pool, std::vector<double>& mean,
                        std::vector<float>& scores) {
  const int64_t ratio = q_heads / kv_heads;
  mean.resize(order.size());
  scores.resize(order.size());
  const float* weights = seen.weights + ((seen.queries - 1) * q_heads + head * ratio) * seen.stride;
  for (size_t i = 0; i < order.size(); ++i) {
    double sum = 0;
    for (int64_t h = 0; h < ratio; ++h) sum += double{weights[h * seen.stride + order[i]]};
    mean[i] = sum / static_cast<double>(ratio);
  }
  average_pool(mean, pool, scores);
}

Cake::Cake(const MemoryShape& shape, const CakeOptions& options)
    : CachePolicy(shape), options_(options) {
  MNEME_CHECK(options.window >= 2, "cake: a variance needs a window of at least 2, got ",
              options.window);
  MNEME_CHECK(options.tau1 > 0 && options.tau2 > 0, "cake: tau1 and tau2 must be positive, got ",
              options.tau1, " and ", options.tau2);
  MNEME_CHECK(options.pool > 0 && options.pool % 2 == 1, "cake: expected an odd pool, got ",
              options.pool);
  MNEME_CHECK(std::isfinite(options.gamma), "cake: expected a finite gamma, got ", options.gamma);
  options.budget.check("cake", options.window);
  global_layers_ = shape.layers_that_see_all();
  cleared();
}

void Cake::cleared() {
  const auto layers = static_cast<size_t>(shape().layers());
  const size_t heads = layers * static_cast<size_t>(shape().kv_heads);
  state_.preferences.assign(layers, 0.0);
  state_.budgets.assign(layers, -1);
  state_.order.assign(heads, {});
  next_.reset();
  indicators_.assign(heads, {});
}

Cake::State& Cake::next() {
  if (!next_) next_ = state_;
  return *next_;
}

void Cake::committed() {
  if (next_) state_ = *std::exchange(next_, std::nullopt);
}

std::string Cake::refusal(int64_t tokens, int64_t end, int64_t following) const {
  if (tokens == 1 && following == 0) return "";
  return options_.budget.refusal("cake", options_.window, end + following);
}

int64_t Cake::settled_rows(int64_t layer, int64_t length) const {
  const int64_t rows = options_.budget.of(length);
  return !shape().sees_all(layer) || length <= rows + options_.window ? length : rows;
}

void Cake::enter(const PolicyStep& step, const PolicyRows& rows) {
  const int64_t layer = step.layer.layer, budget = state_.budgets[static_cast<size_t>(layer)];
  over_budget_ =
      step.decodes() && budget >= 0 && rows.of(layer, 0).rows() > budget + options_.window;
}

Watch Cake::watch(const PolicyStep& step) const {
  if (!shape().sees_all(step.layer.layer)) return {};
  if (step.text_ends()) return {.queries = options_.window};
  return {.queries = over_budget_ ? 1 : 0};
}

void Cake::leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) {
  if (!shape().sees_all(step.layer.layer)) return;
  if (step.text_ends()) {
    judge_text(step, seen, rows);
  } else if (over_budget_) {
    cut_while_decoding(step, seen, rows);
  }
}

void Cake::judge_text(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) {
  const int64_t layer = step.layer.layer, held = rows.of(layer, 0).rows();
  const int64_t length = step.end(), window = options_.window;
  const int64_t average = std::min(options_.budget.of(length), length);
  if (options_.budget.everything()) return;
  if (length <= average + window) {
    next().budgets[static_cast<size_t>(layer)] = average - window;
    return;
  }
  const auto layers = std::ssize(global_layers_);
  // A layer that was cut before and fits its window has nothing to choose from.
  CakeScores scores;
  if (held > seen.queries && seen.queries >= 2)
    scores = cake_scores(seen, shape().q_heads, shape().kv_heads, held, options_);
  next().preferences[static_cast<size_t>(layer)] = scores.preference(options_);
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    indicators_[shape().head_index(layer, head)] =
        scores.indicator.empty() ? std::vector<float>()
                                 : std::move(scores.indicator[static_cast<size_t>(head)]);
  }
  const auto arrived = std::ranges::find(global_layers_, layer) - global_layers_.begin() + 1;
  if (arrived < layers && !(options_.cascading && rows.at_once())) return;

  std::vector<double> preferences;
  for (int64_t i = 0; i < arrived; ++i) {
    preferences.push_back(
        next().preferences[static_cast<size_t>(global_layers_[static_cast<size_t>(i)])]);
  }
  const std::vector<int64_t> budgets =
      cake_budgets(preferences, (average - window) * layers, length - window);
  for (int64_t i = 0; i < arrived; ++i) {
    const int64_t cut = global_layers_[static_cast<size_t>(i)];
    next().budgets[static_cast<size_t>(cut)] = budgets[static_cast<size_t>(i)];
    cut_layer(cut, budgets[static_cast<size_t>(i)], rows);
  }
  if (arrived == layers) {
    for (auto& indicator : indicators_) indicator = {};
  }
}

void Cake::cut_layer(int64_t layer, int64_t budget, PolicyRows& rows) {
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    const PagedRows& held = rows.of(layer, head);
    std::vector<float>& indicator = indicators_[shape().head_index(layer, head)];
    const auto before = std::ssize(indicator);
    if (options_.score_order) {
      // Judged rows in the order of their scores, then the window.
      std::vector<int32_t>& order = next().order[shape().head_index(layer, head)];
      order.clear();
      for (const int32_t row : best(indicator, budget, SelectOrder::kRank))
        order.push_back(held.position(row));
      for (int64_t row = before; row < held.rows(); ++row) order.push_back(held.position(row));
    }
    if (before <= budget) continue;
    const std::vector<int32_t> chosen = best(indicator, budget, SelectOrder::kIndex);
    std::vector<int64_t> kept(chosen.begin(), chosen.end());
    for (int64_t row = before; row < held.rows(); ++row) kept.push_back(row);
    rows.keep(layer, head, kept);
    for (size_t i = 0; i < chosen.size(); ++i)
      indicator[i] = indicator[static_cast<size_t>(chosen[i])];
    indicator.resize(chosen.size());
  }
}

// All rows of a head in the order pooling runs over.
void Cake::order_rows(int64_t layer, int64_t head, const PagedRows& rows,
                      std::vector<int64_t>& order) const {
  order.resize(static_cast<size_t>(rows.rows()));
  std::iota(order.begin(), order.end(), int64_t{0});
  if (!options_.score_order) return;
  std::vector<int32_t> positions(order.size());
  for (size_t row = 0; row < order.size(); ++row)
    positions[row] = rows.position(static_cast<int64_t>(row));
  const std::vector<int32_t>& known = state_.order[shape().head_index(layer, head)];
  // Rows that came since are the newest, in place already.
  for (size_t i = 0; i < known.size(); ++i)
    order[i] = std::ranges::lower_bound(positions, known[i]) - positions.begin();
}

void Cake::cut_while_decoding(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) {
  thread_local std::vector<int64_t> order;
  thread_local std::vector<double> mean;
  thread_local std::vector<float> scores;
  const int64_t layer = step.layer.layer, budget = state_.budgets[static_cast<size_t>(layer)];
  for (int64_t head = 0; head < shape().kv_heads; ++head) {
    const PagedRows& held = rows.of(layer, head);
    order_rows(layer, head, held, order);
    const auto judged = std::span(order).first(order.size() - static_cast<size_t>(options_.window));
    cake_decode_scores(seen, shape().q_heads, shape().kv_heads, head, judged, options_.pool, mean,
                       scores);
    if (std::ssize(judged) == budget + 1 && !options_.score_order) {
      rows.drop(layer, head, select_weakest(scores));
      continue;
    }
    std::vector<int64_t> kept;
    for (const int32_t slot : best(scores, budget, SelectOrder::kRank))
      kept.push_back(judged[static_cast<size_t>(slot)]);
    kept.insert(kept.end(), order.end() - options_.window, order.end());
    if (options_.score_order) {
      std::vector<int32_t>& positions = next().order[shape().head_index(layer, head)];
      positions.clear();
      for (const int64_t row : kept) positions.push_back(held.position(row));
    }
    std::ranges::sort(kept);
    rows.keep(layer, head, kept);
  }
}

std::vector<StateTensor> Cake::save_state() const {
  std::vector<StateTensor> state = {state_tensor("policy_budgets", state_.budgets),
                                    state_tensor("policy_preferences", state_.preferences)};
  for (size_t i = 0; i < state_.order.size() && options_.score_order; ++i)
    state.push_back(state_tensor(concat("policy_order_", i), state_.order[i]));
  return state;
}

void Cake::load_state(const TensorSource& state) {
  const int64_t layers = shape().layers();
  State loaded = {.preferences = read_state<double>(state, "policy_preferences", layers),
                  .budgets = read_state<int64_t>(state, "policy_budgets", layers)};
  for (const int64_t budget : loaded.budgets) {
    MNEME_CHECK(budget >= -1, state.origin(), ": policy_budgets: expected -1 or more, got ",
                budget);
  }
  loaded.order.resize(state_.order.size());
  for (size_t i = 0; i < loaded.order.size() && options_.score_order; ++i)
    loaded.order[i] = read_state<int32_t>(state, concat("policy_order_", i), -1);
  state_ = std::move(loaded);
  next_.reset();
}

int64_t Cake::state_bytes() const {
  int64_t bytes = shape().layers() * static_cast<int64_t>(sizeof(double) + sizeof(int64_t));
  for (const auto& indicator : indicators_)
    bytes += static_cast<int64_t>(indicator.size() * sizeof(float));
  for (const auto& order : state_.order)
    bytes += static_cast<int64_t>(order.size() * sizeof(int32_t));
  return bytes;
}

}  // namespace mneme
