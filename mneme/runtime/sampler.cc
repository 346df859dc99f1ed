#include "mneme/runtime/sampler.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/error.h"

namespace mneme {
namespace {

// Likelier first, lower id first among equals.
bool comes_before(const std::pair<float, int32_t>& a, const std::pair<float, int32_t>& b) {
  return a.first != b.first ? a.first > b.first : a.second < b.second;
}

}  // namespace

void SamplerOptions::validate() const {
  MNEME_CHECK(std::isfinite(temperature) && temperature >= 0 && temperature <= 100,
              "temperature must be 0 to 100, got ", temperature);
  MNEME_CHECK(top_k >= 0, "top-k must not be negative, got ", top_k);
  MNEME_CHECK(top_p > 0 && top_p <= 1, "top-p must be above 0 and at most 1, got ", top_p);
  MNEME_CHECK(min_p >= 0 && min_p <= 1, "min-p must be 0 to 1, got ", min_p);
  MNEME_CHECK(std::isfinite(repetition_penalty) && repetition_penalty > 0,
              "repetition penalty must be positive, got ", repetition_penalty);
  MNEME_CHECK(penalty_window >= 0, "penalty window must not be negative, got ", penalty_window);
}

int32_t argmax(std::span<const float> logits) {
  int32_t best = -1;
  float largest = -std::numeric_limits<float>::infinity();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (logits[i] > largest) {
      largest = logits[i];
      best = static_cast<int32_t>(i);
    }
  }
  MNEME_CHECK(best >= 0, "sampler: none of ", logits.size(), " logits is a finite number");
  return best;
}

Sampler::Sampler(const SamplerOptions& options) : options_(options), rng_(options.seed) {
  options_.validate();
}

void Sampler::penalise(std::span<const int32_t> history) {
  const auto count = std::min<size_t>(history.size(), static_cast<size_t>(options_.penalty_window));
  penalised_.assign(history.end() - static_cast<int64_t>(count), history.end());
  std::ranges::sort(penalised_);
  const auto repeated = std::ranges::unique(penalised_);
  penalised_.erase(repeated.begin(), repeated.end());
  const auto penalty = static_cast<float>(options_.repetition_penalty);
  for (const int32_t id : penalised_) {
    if (id < 0 || static_cast<size_t>(id) >= logits_.size()) continue;
    float& logit = logits_[static_cast<size_t>(id)];
    logit = logit > 0 ? logit / penalty : logit * penalty;
  }
}

int32_t Sampler::sample(std::span<const float> logits, std::span<const int32_t> history) {
  if (options_.repetition_penalty != 1) {
    logits_.assign(logits.begin(), logits.end());
    penalise(history);
    logits = logits_;
  }
  const int32_t likeliest = argmax(logits);
  if (options_.temperature == 0) return likeliest;

  candidates_.clear();
  for (size_t i = 0; i < logits.size(); ++i) {
    if (!std::isnan(logits[i])) candidates_.emplace_back(logits[i], static_cast<int32_t>(i));
  }
  const size_t keep = options_.top_k == 0
                          ? candidates_.size()
                          : std::min(candidates_.size(), static_cast<size_t>(options_.top_k));
  std::partial_sort(candidates_.begin(), candidates_.begin() + static_cast<int64_t>(keep),
                    candidates_.end(), comes_before);
  candidates_.resize(keep);

  // Probabilities relative to the likeliest, before temperature: top-p and min-p judge the model's
  // own distribution.
  const double largest = candidates_.front().first;
  weights_.resize(keep);
  double sum = 0;
  for (size_t i = 0; i < keep; ++i) sum += weights_[i] = std::exp(candidates_[i].first - largest);
  size_t kept = 0;
  for (double mass = 0; kept < keep; ++kept) {
    if (kept > 0 && (mass >= options_.top_p * sum || weights_[kept] < options_.min_p)) break;
    mass += weights_[kept];
  }

  double total = 0;
  for (size_t i = 0; i < kept; ++i)
    total += weights_[i] = std::exp((candidates_[i].first - largest) / options_.temperature);
  double draw = rng_.uniform() * total;
  for (size_t i = 0; i < kept; ++i) {
    draw -= weights_[i];
    if (draw < 0) return candidates_[i].second;
  }
  return candidates_[kept - 1].second;
}

}  // namespace mneme
