#include "mneme/eval/log_probability.h"

#include <algorithm>
#include <cmath>

#include "mneme/core/error.h"

namespace mneme {
namespace {

// ln(sum(exp(logits))). The kernel of that name works in float32: its 1e-7 would drown the
// divergence of a nearly exact memory.
double checked_log_sum(std::span<const float> logits) {
  MNEME_CHECK(!logits.empty(), "log_probability: no logits");
  const double largest = std::ranges::max(logits);
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit) - largest);
  const double result = largest + std::log(sum);
  MNEME_CHECK(std::isfinite(result), "log_probability: the logits sum to ", result,
              ", which is no finite number");
  return result;
}

}  // namespace

double log_probability(std::span<const float> logits, int32_t token) {
  MNEME_CHECK(token >= 0 && static_cast<size_t>(token) < logits.size(),
              "log_probability: expected a token of 0 to ", static_cast<int64_t>(logits.size()) - 1,
              ", got ", token);
  return static_cast<double>(logits[static_cast<size_t>(token)]) - checked_log_sum(logits);
}

double kl_divergence_of(std::span<const float> p_logits, std::span<const float> q_logits) {
  MNEME_CHECK(p_logits.size() == q_logits.size(), "kl_divergence_of: rows of ", p_logits.size(),
              " and ", q_logits.size(), " logits");
  const double p_sum = checked_log_sum(p_logits);
  const double q_sum = checked_log_sum(q_logits);
  double divergence = 0;
  for (size_t i = 0; i < p_logits.size(); ++i) {
    const double log_p = static_cast<double>(p_logits[i]) - p_sum;
    const double log_q = static_cast<double>(q_logits[i]) - q_sum;
    divergence += std::exp(log_p) * (log_p - log_q);
  }
  MNEME_CHECK(std::isfinite(divergence), "kl_divergence_of: a logit is not a finite number");
  return std::max(0.0, divergence);  // rounding may leave -1e-17
}

}  // namespace mneme
