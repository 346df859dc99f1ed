// FlashAttention in float64, a query row at a time: for gradient checks and tests, not for speed. A
// row's weights are held, one row a thread; nothing else grows with the number of keys.
#include <algorithm>
#include <cmath>
#include <limits>

#include "mneme/core/checked.h"
#include "mneme/kernels/flash_backward.h"
#include "mneme/kernels/flash_dropout.h"
#include "mneme/kernels/flash_forward.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme {
namespace {

double* reserve_doubles(AttentionScratch& scratch, int64_t count) {
  return reinterpret_cast<double*>(
      scratch.reserve(checked_mul(count, 2, "flash attention")));  // 64-byte aligned
}

struct Row {
  const FlashPlan& plan;
  const FlashSequence& sequence;
  int64_t head, query;

  int64_t offset() const { return sequence.k_len - sequence.q_len; }
  int64_t begin() const {
    const int64_t left = plan.config.window_left;
    return left < 0 ? 0 : std::max<int64_t>(0, query + offset() - left);
  }
  int64_t end() const {
    if (plan.right < 0) return sequence.k_len;
    return std::clamp<int64_t>(query + offset() + plan.right + 1, 0, sequence.k_len);
  }
  int64_t kv_head() const { return head / plan.ratio; }
  int64_t at(const HeadStrides& strides) const {
    return sequence.q_batch * strides.batch + (sequence.q_begin + query) * strides.token +
           head * strides.head;
  }
  bool keeps(int64_t key) const {
    const FlashAttention& c = plan.config;
    return c.dropout == 0 ||
           dropout_keeps(c.dropout_seed, c.dropout_offset, sequence.index * c.q_heads + head, query,
                         key, c.dropout);
  }
  double keep_scale() const { return 1 / (1 - plan.config.dropout); }

  // The score of one key; `slope` receives its derivative by scale * q . k.
  double score(const double* q, const double* k, int64_t key, double& slope) const {
    const FlashAttention& c = plan.config;
    double s = 0;
    for (int64_t i = 0; i < c.head_dim; ++i) s += q[i] * k[i];
    s *= c.scale;
    slope = 1;
    if (c.softcap > 0) {
      const double bent = std::tanh(s / c.softcap);
      slope = 1 - bent * bent;
      s = c.softcap * bent;
    }
    if (c.alibi_slopes != nullptr) {
      const int64_t of = c.alibi_per_batch ? sequence.index * c.q_heads + head : head;
      s -= double{c.alibi_slopes[of]} * std::abs(static_cast<double>(query + offset() - key));
    }
    return s;
  }
};

void forward_row(const ForwardCall& call, const Row& row, double* scores) {
  const FlashAttention& config = call.plan.config;
  const auto* q = static_cast<const double*>(call.q.data) + row.at(call.q.strides);
  auto* o = static_cast<double*>(call.o.data) + row.at(call.o.strides);
  const auto element = [&](const ConstHeads& heads, int64_t key) {
    return static_cast<const double*>(heads.data) +
           call.key_offset(heads.strides, row.sequence, row.kv_head(), key);
  };
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  double top = -kInfinity, sum = 0, slope = 0;
  const int64_t begin = row.begin(), end = row.end();
  for (int64_t j = begin; j < end; ++j) {
    scores[j] = row.score(q, element(call.k, j), j, slope);
    top = std::max(top, scores[j]);
  }
  std::fill(o, o + config.head_dim, 0.0);
  for (int64_t j = begin; j < end; ++j) {
    const double weight = std::exp(scores[j] - top);
    sum += weight;
    if (!row.keeps(j)) continue;
    const double* v = element(call.v, j);
    for (int64_t i = 0; i < config.head_dim; ++i) o[i] += weight * v[i];
  }
  if (begin < end) {
    for (int64_t i = 0; i < config.head_dim; ++i) o[i] *= row.keep_scale() / sum;
  }
  if (call.lse != nullptr) {
    static_cast<double*>(
        call.lse)[row.sequence.lse_begin + row.head * call.plan.lse_head_stride + row.query] =
        begin < end ? top + std::log(sum) : kInfinity;
  }
}

// dq of the row, and its part of dk and dv.
void backward_row(const BackwardCall& call, const Row& row) {
  const FlashPlan& plan = call.plan;
  const int64_t dim = plan.config.head_dim;
  const auto query_row = [&](const ConstHeads& heads) {
    return static_cast<const double*>(heads.data) + row.at(heads.strides);
  };
  const auto at_key = [&](const HeadStrides& strides, int64_t key) {
    return FlashPlan::key_offset(strides, row.sequence, row.kv_head(), key);
  };
  const double *q = query_row(call.q), *o = query_row(call.o), *dout = query_row(call.dout);
  auto* dq = static_cast<double*>(call.dq.data) + row.at(call.dq.strides);
  const double lse = static_cast<const double*>(
      call.lse)[row.sequence.lse_begin + row.head * plan.lse_head_stride + row.query];
  double delta = 0;
  for (int64_t i = 0; i < dim; ++i) delta += dout[i] * o[i];
  std::fill(dq, dq + dim, 0.0);
  for (int64_t j = row.begin(); j < row.end(); ++j) {
    const double* k = static_cast<const double*>(call.k.data) + at_key(call.k.strides, j);
    const double* v = static_cast<const double*>(call.v.data) + at_key(call.v.strides, j);
    double* dk = static_cast<double*>(call.dk.data) + at_key(call.dk.strides, j);
    double* dv = static_cast<double*>(call.dv.data) + at_key(call.dv.strides, j);
    double slope = 0;
    const double weight = std::exp(row.score(q, k, j, slope) - lse);
    const double kept = row.keeps(j) ? row.keep_scale() : 0;
    double dp = 0;
    for (int64_t i = 0; i < dim; ++i) {
      dp += dout[i] * v[i];
      dv[i] += weight * kept * dout[i];
    }
    const double ds = weight * (dp * kept - delta) * slope * plan.config.scale;
    for (int64_t i = 0; i < dim; ++i) {
      dq[i] += ds * k[i];
      dk[i] += ds * q[i];
    }
  }
}

}  // namespace

void forward_double(const ForwardCall& call, AttentionScratch& scratch, ThreadPool& pool) {
  const FlashPlan& plan = call.plan;
  int64_t keys = 0;
  for (const FlashSequence& sequence : plan.sequences) keys = std::max(keys, sequence.k_len);
  double* scores = reserve_doubles(scratch, checked_mul(keys, pool.size(), "flash attention"));
  pool.run(plan.tiles, [&](int64_t index, int worker) {
    const RowTile tile = plan.tile(index);
    for (int64_t r = 0; r < tile.rows; ++r) {
      forward_row(call, {plan, *tile.sequence, plan.head_of(tile, r), plan.query_of(tile, r)},
                  scores + worker * keys);
    }
  });
}

void backward_double(const BackwardCall& call, ThreadPool& pool) {
  const FlashPlan& plan = call.plan;
  const int64_t dim = plan.config.head_dim, heads = plan.config.kv_heads;
  pool.run(static_cast<int64_t>(plan.sequences.size()) * heads, [&](int64_t task, int) {
    const FlashSequence& sequence = plan.sequences[static_cast<size_t>(task / heads)];
    const int64_t kv_head = task % heads;
    for (int64_t j = 0; j < sequence.k_len; ++j) {
      for (const MutableHeads& gradient : {call.dk, call.dv}) {
        auto* row = static_cast<double*>(gradient.data) +
                    FlashPlan::key_offset(gradient.strides, sequence, kv_head, j);
        std::fill(row, row + dim, 0.0);
      }
    }
    for (int64_t h = kv_head * plan.ratio; h < (kv_head + 1) * plan.ratio; ++h) {
      for (int64_t i = 0; i < sequence.q_len; ++i) backward_row(call, {plan, sequence, h, i});
    }
  });
}

}  // namespace mneme
