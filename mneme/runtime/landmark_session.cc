#include "mneme/runtime/landmark_session.h"

#include <algorithm>

#include "mneme/core/error.h"

namespace mneme {

LandmarkSession::LandmarkSession(Forward forward, std::unique_ptr<LandmarkMemory> memory,
                                 std::vector<int32_t> tokens)
    : forward_(std::move(forward)), memory_(std::move(memory)), tokens_(std::move(tokens)) {
  MNEME_CHECK(forward_ != nullptr, "landmark session: no model");
  MNEME_CHECK(memory_ != nullptr, "landmark session: no memory");
  const LandmarkOptions& options = memory_->options();
  MNEME_CHECK(options.landmark == LandmarkOptions::Landmark::kToken && options.landmark_token >= 0,
              "landmark session: the memory ", memory_->spec(), " names no landmark token");
  const int64_t positions = positions_of(std::ssize(tokens_), options.block);
  MNEME_CHECK(memory_->length() == positions, "landmark session: ", tokens_.size(), " tokens take ",
              positions, " positions, the memory has ", memory_->length());
}

LandmarkSession::Forward LandmarkSession::through(DecoderModel& model, ThreadPool& pool) {
  return [&model, &pool](std::span<const int32_t> tokens, LandmarkMemory& memory) {
    const SequenceStep step{tokens, &memory, Logits::kAll};
    return model.forward({&step, 1}, pool);
  };
}

std::vector<int32_t> LandmarkSession::with_landmarks(std::span<const int32_t> tokens,
                                                     int64_t position,
                                                     std::vector<uint8_t>& is_landmark) const {
  const LandmarkOptions& options = memory_->options();
  std::vector<int32_t> stream;
  is_landmark.clear();
  const auto push = [&](int32_t token, bool landmark) {
    stream.push_back(token);
    is_landmark.push_back(landmark);
    ++position;
  };
  for (const int32_t token : tokens) {
    push(token, false);
    if (position % options.block == options.block - 1) push(options.landmark_token, true);
  }
  return stream;
}

std::vector<float> LandmarkSession::append(std::span<const int32_t> tokens, int64_t chunk) {
  MNEME_CHECK(chunk >= 0, "landmark session: the chunk must not be negative, got ", chunk);
  const int32_t landmark = memory_->options().landmark_token;
  const auto found = std::ranges::find(tokens, landmark);
  MNEME_CHECK(found == tokens.end(), "landmark session: token ", found - tokens.begin(),
              " is the landmark (", landmark, "), which only the session inserts");
  const size_t step = chunk == 0 ? std::max<size_t>(1, tokens.size()) : static_cast<size_t>(chunk);
  std::vector<float> logits;
  std::vector<uint8_t> is_landmark;
  for (size_t at = 0; at < tokens.size(); at += step) {
    const auto part = tokens.subspan(at, std::min(step, tokens.size() - at));
    const std::vector<int32_t> stream = with_landmarks(part, memory_->length(), is_landmark);
    const std::span<const float> rows = forward_(stream, *memory_);
    MNEME_ASSERT(rows.size() % stream.size() == 0);
    const size_t width = rows.size() / stream.size();
    for (size_t i = 0; i < stream.size(); ++i) {
      if (is_landmark[i] != 0) continue;
      const auto row = rows.subspan(i * width, width);
      logits.insert(logits.end(), row.begin(), row.end());
    }
    tokens_.insert(tokens_.end(), part.begin(), part.end());
  }
  return logits;
}

}  // namespace mneme
