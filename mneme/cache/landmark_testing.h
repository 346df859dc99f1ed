// What a LandmarkMemory should answer, by its definition: every key is rotated to the position it
// stands at, every query to its own, and one grouped softmax in float64 goes over all of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "mneme/cache/landmark_memory.h"
#include "mneme/core/rng.h"
#include "mneme/kernels/grouped_softmax.h"

namespace mneme::testing {

// The rows of a whole text for one layer, before rotation.
template <typename T>
struct LandmarkRows {
  int64_t tokens = 0;
  std::vector<T> q, k, v;  // [tokens, heads, dim]
};
using LandmarkText = LandmarkRows<float>;

inline LandmarkText landmark_text(const MemoryShape& shape, int64_t tokens, uint64_t seed) {
  Rng rng(seed);
  LandmarkText text{.tokens = tokens};
  const auto fill = [&](std::vector<float>& rows, int64_t width) {
    rows.resize(static_cast<size_t>(tokens * width));
    for (float& value : rows) value = static_cast<float>(rng.normal());
  };
  fill(text.q, shape.q_heads * shape.k_dim);
  fill(text.k, shape.kv_heads * shape.k_dim);
  fill(text.v, shape.kv_heads * shape.v_dim);
  return text;
}

template <typename T>
std::vector<double> rotated(const T* x, int64_t dim, const RotaryPositions* rotary,
                            double position) {
  std::vector<double> y(x, x + dim);
  if (rotary == nullptr) return y;
  for (int64_t i = 0; i < dim / 2; ++i) {
    double frequency =
        std::pow(rotary->base, -2.0 * static_cast<double>(i) / static_cast<double>(dim)) /
        rotary->scale;
    if (!rotary->factors.empty()) frequency /= rotary->factors[static_cast<size_t>(i)];
    const double c = std::cos(position * frequency), s = std::sin(position * frequency);
    const bool halves = rotary->pairs == RopePairs::kHalves;
    const auto a = static_cast<size_t>(halves ? i : 2 * i);
    const auto b = static_cast<size_t>(halves ? i + dim / 2 : 2 * i + 1);
    const double x0 = y[a], x1 = y[b];
    y[a] = x0 * c - x1 * s;
    y[b] = x0 * s + x1 * c;
  }
  return y;
}

template <typename T>
class NaiveLandmark {
 public:
  NaiveLandmark(MemoryShape shape, LandmarkOptions options, const LandmarkRows<T>& text)
      : shape_(std::move(shape)), o_(std::move(options)), text_(text) {}

  // Answers [tokens, q_heads, v_dim] to a text that comes in these steps.
  std::vector<double> answers(const std::vector<int64_t>& steps) {
    out_.assign(static_cast<size_t>(text_.tokens * shape_.q_heads * shape_.v_dim), 0.0);
    int64_t at = 0;
    for (const int64_t step : steps) {
      for (int64_t first = at; first < at + step;) {
        // A chunk, or with a window every query for itself.
        const int64_t count =
            o_.window > 0
                ? 1
                : std::min(at + step - first, first / o_.block * o_.block + o_.chunk - first);
        answer_chunk(first, count);
        first += count;
      }
      at += step;
    }
    return out_;
  }

  // [q_heads, queries, fetched] of the last chunk, as select_blocks() gives them.
  const std::vector<int32_t>& selected() const { return selected_; }

 private:
  const RotaryPositions* rotary() const {
    return shape_.rotary.empty() ? nullptr : shape_.rotary.data();
  }
  bool token() const { return o_.landmark == LandmarkOptions::Landmark::kToken; }
  int64_t kv_head(int64_t head) const { return head / (shape_.q_heads / shape_.kv_heads); }
  const T* q(int64_t p, int64_t head) const {
    return text_.q.data() + (p * shape_.q_heads + head) * shape_.k_dim;
  }
  const T* k(int64_t p, int64_t head) const {
    return text_.k.data() + (p * shape_.kv_heads + kv_head(head)) * shape_.k_dim;
  }
  const T* v(int64_t p, int64_t head) const {
    return text_.v.data() + (p * shape_.kv_heads + kv_head(head)) * shape_.v_dim;
  }

  template <typename Key>
  double score(int64_t p, int64_t head, const Key* key, int64_t position) const {
    const std::vector<double> a =
        rotated(q(p, head), shape_.k_dim, rotary(), static_cast<double>(p));
    const std::vector<double> b =
        rotated(key, shape_.k_dim, rotary(), static_cast<double>(position));
    return scale * std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  }

  void answer_chunk(int64_t first, int64_t count) {
    const int64_t b = o_.block;
    const int64_t n = o_.window > 0 ? std::max<int64_t>(0, first - o_.window + 1) / b : first / b;
    const int64_t older = o_.blocks > 0 ? std::max<int64_t>(0, n - o_.blocks) : 0;
    const int64_t blocks = n - older, kk = std::min(o_.top, blocks);
    const int64_t slots = n * b - (kk + 1) * b;  // position of slot 0
    std::vector<double> landmark(static_cast<size_t>(shape_.k_dim));
    std::vector<float> scores;
    for (int64_t head = 0; head < shape_.q_heads; ++head) {
      for (int64_t p = first; p < first + count; ++p) {
        for (int64_t j = 0; j < blocks; ++j) {
          const int64_t begin = (older + j) * b;
          std::copy_n(k(begin + b - 1, head), shape_.k_dim, landmark.begin());
          if (!token()) {
            for (int64_t i = 0; i < shape_.k_dim; ++i) {
              double sum = 0;
              for (int64_t r = 0; r < b; ++r) sum += k(begin + r, head)[i];
              landmark[static_cast<size_t>(i)] = sum / static_cast<double>(b);
            }
          }
          scores.push_back(static_cast<float>(
              score(p, head, landmark.data(), slots + landmark_slot(j, blocks, kk) * b + b - 1)));
        }
      }
    }
    std::vector<int32_t>& selected = selected_;
    selected.assign(static_cast<size_t>(shape_.q_heads * count * kk), -1);
    LandmarkScratch scratch;
    if (kk > 0) {
      select_blocks(o_.selection, {scores.data(), shape_.q_heads, count, blocks, blocks}, o_.top,
                    selected, scratch);
    }
    for (int64_t head = 0; head < shape_.q_heads; ++head)
      for (int64_t t = 0; t < count; ++t)
        answer(first + t, head, n, older, kk, slots, selected.data() + (head * count + t) * kk);
  }

  void answer(int64_t p, int64_t head, int64_t n, int64_t older, int64_t kk, int64_t slots,
              const int32_t* selected) {
    const int64_t b = o_.block;
    std::vector<double> scores;
    std::vector<uint8_t> landmarks;
    std::vector<int64_t> rows;
    for (int64_t i = 0; i < kk; ++i) {
      const int64_t slot = fetched_slot(i, selected[i], n - older, kk);
      for (int64_t r = 0; r < b; ++r) {
        const int64_t row = (older + selected[i]) * b + r;
        scores.push_back(score(p, head, k(row, head), slots + slot * b + r));
        landmarks.push_back(token() && r == b - 1);
        rows.push_back(row);
      }
    }
    for (int64_t row = n * b; row <= p; ++row) {
      scores.push_back(score(p, head, k(row, head), row));
      landmarks.push_back(token() && row % b == b - 1);
      rows.push_back(row);
    }
    std::vector<double> weights(scores.size());
    grouped_softmax({1, std::ssize(scores), landmarks.data(), nullptr}, scores.data(),
                    weights.data());
    double* const out = out_.data() + (p * shape_.q_heads + head) * shape_.v_dim;
    for (size_t j = 0; j < rows.size(); ++j)
      for (int64_t i = 0; i < shape_.v_dim; ++i) out[i] += weights[j] * v(rows[j], head)[i];
  }

 public:
  double scale = 0.2;

 private:
  MemoryShape shape_;
  LandmarkOptions o_;
  const LandmarkRows<T>& text_;
  std::vector<double> out_;
  std::vector<int32_t> selected_;
};

// One step of `tokens` of a text through every layer (all get the same rows), beginning where the
// memory is; appends the answers of the last layer to `answers`.
inline void landmark_step(SequenceMemory& memory, const LandmarkText& text, int64_t tokens,
                          std::vector<float>& answers, float scale = 0.2f) {
  static ThreadPool pool(2);
  const MemoryShape& shape = memory.shape();
  const int64_t first = memory.length();
  const size_t before = answers.size();
  answers.resize(before + static_cast<size_t>(tokens * shape.q_heads * shape.v_dim), std::nanf(""));
  memory.begin(memory.plan(tokens));
  for (int64_t layer = 0; layer < shape.layers(); ++layer) {
    memory.attend({.layer = layer,
                   .q = text.q.data() + first * shape.q_heads * shape.k_dim,
                   .k = text.k.data() + first * shape.kv_heads * shape.k_dim,
                   .v = text.v.data() + first * shape.kv_heads * shape.v_dim,
                   .scale = scale,
                   .out = answers.data() + before},
                  pool);
  }
  memory.commit();
}

inline std::vector<float> landmark_answers(SequenceMemory& memory, const LandmarkText& text,
                                           const std::vector<int64_t>& steps) {
  std::vector<float> answers;
  for (const int64_t tokens : steps) landmark_step(memory, text, tokens, answers);
  return answers;
}

inline double worst(const std::vector<float>& got, const std::vector<double>& want) {
  double error = got.size() == want.size() ? 0 : INFINITY;
  for (size_t i = 0; i < std::min(got.size(), want.size()); ++i) {
    if (std::isnan(got[i])) return INFINITY;
    error = std::max(error, std::abs(got[i] - want[i]));
  }
  return error;
}

}  // namespace mneme::testing
