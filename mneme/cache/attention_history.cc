#include "mneme/cache/attention_history.h"

#include <algorithm>
#include <cmath>

#include "mneme/cache/policy/policy_state.h"
#include "mneme/core/error.h"
#include "mneme/simulate/tier_schedule.h"

namespace mneme {
namespace {

// Subtracting what leaves drifts: so often sums are made from scratch.
constexpr int64_t kFreshSums = 256;

}  // namespace

void AttentionHistory::push_dense(std::span<const float> weights) {
  push({{}, {weights.begin(), weights.end()}}, std::ssize(weights));
}

void AttentionHistory::push_sparse(std::span<const int32_t> tokens,
                                   std::span<const float> weights) {
  MNEME_ASSERT(tokens.size() == weights.size() && !tokens.empty());
  push({{tokens.begin(), tokens.end()}, {weights.begin(), weights.end()}}, tokens.back() + 1);
}

// The sums follow in choose(), which alone knows how many rows count.
void AttentionHistory::push(Row row, int64_t tokens) {
  rows_.push_back(std::move(row));
  const int64_t most = half_window(tokens, ratio_) + 1;
  if (summed_ > 0) {
    sums_.resize(std::max(sums_.size(), static_cast<size_t>(tokens)));
    add(rows_.back(), 1);
    ++summed_;
  }
  while (queries() > most) {
    if (summed_ == queries()) {
      add(rows_.front(), -1);
      --summed_;
      ++since_;
    }
    rows_.pop_front();
  }
}

void AttentionHistory::add(const Row& row, float sign) {
  if (row.tokens.empty()) {
    for (size_t i = 0; i < row.weights.size(); ++i) sums_[i] += sign * row.weights[i];
  } else {
    for (size_t i = 0; i < row.weights.size(); ++i)
      sums_[static_cast<size_t>(row.tokens[i])] += sign * row.weights[i];
  }
}

void AttentionHistory::clear() {
  rows_.clear();
  sums_.clear();
  summed_ = since_ = 0;
}

void AttentionHistory::choose(int64_t n, std::vector<int32_t>& chosen) {
  const int64_t k = half_window(n, ratio_), wanted = std::min(k, queries());
  sums_.resize(static_cast<size_t>(n - 1));
  if (summed_ == 0 || since_ >= kFreshSums) {
    std::fill(sums_.begin(), sums_.end(), 0.0f);
    summed_ = since_ = 0;
  }
  for (; summed_ < wanted; ++summed_)
    add(rows_[rows_.size() - 1 - static_cast<size_t>(summed_)], 1);
  for (; summed_ > wanted; --summed_, ++since_)
    add(rows_[rows_.size() - static_cast<size_t>(summed_)], -1);
  chosen.clear();
  if (2 * k >= n) return;
  chosen.resize(static_cast<size_t>(k));
  select_top_k(std::span(sums_).first(static_cast<size_t>(n - k)), k, SelectOrder::kIndex, chosen,
               scratch_);
}

int64_t AttentionHistory::bytes() const {
  size_t bytes = sums_.size() * sizeof(float);
  for (const Row& row : rows_)
    bytes += sizeof(Row) + row.tokens.size() * sizeof(int32_t) + row.weights.size() * sizeof(float);
  return static_cast<int64_t>(bytes);
}

int64_t AttentionHistory::bytes_of_dense(int64_t n, int64_t queries) {
  // Rows of n - queries + 1, ..., n weights.
  const int64_t weights = queries * n - queries * (queries - 1) / 2;
  return queries * static_cast<int64_t>(sizeof(Row)) + weights * 4;
}

void AttentionHistory::save(const std::string& prefix, std::vector<StateTensor>& state) const {
  std::vector<int32_t> tokens;
  std::vector<float> weights;
  std::vector<int64_t> rows = {summed_, since_};  // then each row's weights and tokens
  for (const Row& row : rows_) {
    rows.push_back(std::ssize(row.weights));
    rows.push_back(std::ssize(row.tokens));
    tokens.insert(tokens.end(), row.tokens.begin(), row.tokens.end());
    weights.insert(weights.end(), row.weights.begin(), row.weights.end());
  }
  state.push_back(state_tensor(prefix + "rows", rows));
  state.push_back(state_tensor(prefix + "tokens", tokens));
  state.push_back(state_tensor(prefix + "weights", weights));
  state.push_back(state_tensor(prefix + "sums", sums_));
}

AttentionHistory AttentionHistory::load(const TensorSource& state, const std::string& prefix,
                                        double ratio, int64_t length) {
  const auto rows = read_state<int64_t>(state, prefix + "rows", -1);
  const auto tokens = read_state<int32_t>(state, prefix + "tokens", -1);
  const auto weights = read_state<float>(state, prefix + "weights", -1);
  AttentionHistory history(ratio);
  history.sums_ = read_state<float>(state, prefix + "sums", -1);
  const auto check = [&](bool good, const char* part) {
    MNEME_CHECK(good, state.origin(), ": ", prefix, part, " does not fit ", length, " tokens");
  };
  check(rows.size() >= 2 && rows.size() % 2 == 0, "rows");
  size_t token = 0, weight = 0;
  for (size_t i = 2; i < rows.size(); i += 2) {
    check(rows[i] > 0 && rows[i] <= length && (rows[i + 1] == 0 || rows[i + 1] == rows[i]), "rows");
    const auto count = static_cast<size_t>(rows[i]), listed = static_cast<size_t>(rows[i + 1]);
    check(count <= weights.size() - weight && listed <= tokens.size() - token, "rows");
    Row row;
    row.weights.assign(weights.begin() + static_cast<int64_t>(weight),
                       weights.begin() + static_cast<int64_t>(weight + count));
    row.tokens.assign(tokens.begin() + static_cast<int64_t>(token),
                      tokens.begin() + static_cast<int64_t>(token + listed));
    for (size_t t = 0; t < listed; ++t)
      check(row.tokens[t] >= 0 && row.tokens[t] < length &&
                (t == 0 || row.tokens[t] > row.tokens[t - 1]),
            "tokens");
    weight += count, token += listed;
    history.rows_.push_back(std::move(row));
  }
  check(weight == weights.size(), "weights");
  check(token == tokens.size(), "tokens");
  const auto finite = [](float x) { return std::isfinite(x); };
  check(std::ranges::all_of(weights, finite), "weights");
  check(std::ranges::all_of(history.sums_, finite) && std::ssize(history.sums_) <= length + 1,
        "sums");
  history.summed_ = rows[0];
  history.since_ = rows[1];
  check(history.summed_ >= 0 && history.summed_ <= history.queries() && history.since_ >= 0,
        "rows");
  // Rows that are part of the sums reach no further than those do.
  for (int64_t i = 0; i < history.summed_; ++i) {
    const Row& row = history.rows_[history.rows_.size() - 1 - static_cast<size_t>(i)];
    const int64_t reach = row.tokens.empty() ? std::ssize(row.weights) : row.tokens.back() + 1;
    check(reach <= std::ssize(history.sums_), "sums");
  }
  return history;
}

}  // namespace mneme
