#include "mneme/runtime/generate.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "mneme/core/error.h"

namespace mneme {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Holds text back while it may be the beginning of a stop string.
class StopMatcher {
 public:
  explicit StopMatcher(const std::vector<std::string>& stops) : stops_(stops) {
    for (const std::string& stop : stops)
      MNEME_CHECK(!stop.empty(), "stop strings must not be empty");
  }

  // Takes new text; returns what is certain not to belong to a stop string. After a match nothing
  // more comes out.
  std::string push(std::string_view text) {
    held_ += text;
    size_t found = std::string::npos;
    for (const std::string& stop : stops_) found = std::min(found, held_.find(stop));
    if (found != std::string::npos) {
      matched_ = true;
      return std::exchange(held_, "").substr(0, found);
    }
    size_t keep = 0;
    for (const std::string& stop : stops_) {
      for (size_t length = std::min(stop.size() - 1, held_.size()); length > keep; --length) {
        if (held_.ends_with(std::string_view(stop).substr(0, length))) keep = length;
      }
    }
    std::string certain = held_.substr(0, held_.size() - keep);
    held_.erase(0, certain.size());
    return certain;
  }

  std::string rest() { return std::exchange(held_, ""); }
  bool matched() const { return matched_; }

 private:
  const std::vector<std::string>& stops_;
  std::string held_;
  bool matched_ = false;
};

}  // namespace

std::string_view stop_reason_name(StopReason reason) {
  switch (reason) {
    case StopReason::kEnd:
      return "end";
    case StopReason::kStopString:
      return "stop";
    case StopReason::kLength:
      return "length";
    case StopReason::kCancelled:
      return "cancelled";
  }
  return "";
}

double Generation::prefill_rate() const {
  const int64_t run = prompt_tokens - reused_tokens;
  return run > 0 && prefill_seconds > 0 ? static_cast<double>(run) / prefill_seconds : 0;
}

double Generation::decode_rate() const {
  return !tokens.empty() && decode_seconds > 0 ? static_cast<double>(tokens.size()) / decode_seconds
                                               : 0;
}

Generation generate(Session& session, const Tokenizer& tokenizer, std::span<const int32_t> prompt,
                    const GenerateOptions& options, const TextSink& sink,
                    const PrefillProgress& progress) {
  MNEME_CHECK(options.max_tokens >= 0, "max tokens must not be negative, got ", options.max_tokens);
  Sampler sampler(options.sampler);
  StopMatcher stops(options.stop);
  Utf8Stream utf8;
  Generation result;
  result.prompt_tokens = static_cast<int64_t>(prompt.size());

  const auto prefill_start = Clock::now();
  result.reused_tokens = session.advance_to(prompt, options.chunk, progress);
  result.prefill_seconds = seconds_since(prefill_start);
  if (session.tokens().size() < prompt.size()) {
    result.stop = StopReason::kCancelled;
    return result;
  }

  const auto emit = [&](const std::string& text) {
    if (text.empty()) return true;
    result.text += text;
    return !sink || sink(text);
  };
  const auto decode_start = Clock::now();
  while (static_cast<int64_t>(result.tokens.size()) < options.max_tokens) {
    const int32_t token = sampler.sample(session.logits(), session.tokens());
    if (tokenizer.ends_generation(token) && !options.ignore_end) {
      result.stop = StopReason::kEnd;
      break;
    }
    if (!session.memory().plan(1).possible()) break;
    session.append({&token, 1});
    result.tokens.push_back(token);
    const bool go_on = emit(stops.push(utf8.push(tokenizer.piece(token))));
    if (stops.matched()) {
      result.stop = StopReason::kStopString;
      break;
    }
    if (!go_on) {
      result.stop = StopReason::kCancelled;
      break;
    }
  }
  if (!stops.matched()) {
    emit(stops.push(utf8.finish()));
    if (stops.matched()) {
      result.stop = StopReason::kStopString;
    } else {
      emit(stops.rest());
    }
  }
  result.decode_seconds = seconds_since(decode_start);
  return result;
}

}  // namespace mneme
