#include "mneme/runtime/session.h"

#include <algorithm>

#include "mneme/cache/prompt_filter.h"
#include "mneme/core/error.h"
#include "mneme/runtime/prefix_replay.h"

namespace mneme {

Session::Session(DecoderModel& model, ThreadPool& pool, std::unique_ptr<SequenceMemory> memory,
                 std::vector<int32_t> tokens)
    : model_(&model), pool_(&pool), memory_(std::move(memory)), tokens_(std::move(tokens)) {
  MNEME_CHECK(memory_ != nullptr, "session: no memory");
  const int64_t seen = memory_->seen_tokens();
  MNEME_CHECK(seen == std::ssize(tokens_), "session: the memory has seen ", seen, " tokens, ",
              tokens_.size(), " are given");
}

int64_t Session::append(std::span<const int32_t> tokens, int64_t chunk,
                        const PrefillProgress& progress, int64_t following) {
  MNEME_CHECK(chunk >= 0, "session: the chunk must not be negative, got ", chunk);
  MNEME_CHECK(following >= 0, "session: following tokens must not be negative, got ", following);
  if (memory_->prompt_filter() != nullptr && tokens.size() > 1) {
    MNEME_CHECK(following == 0, "session: ", memory_->spec(),
                " chooses from a whole text; it cannot be appended in parts");
    return append_filtered(tokens, chunk, progress);
  }
  return run(tokens, chunk, progress, following, tokens_);
}

int64_t Session::run(std::span<const int32_t> tokens, int64_t chunk,
                     const PrefillProgress& progress, int64_t following,
                     std::vector<int32_t>& seen) {
  const auto total = static_cast<int64_t>(tokens.size());
  if (chunk == kChosenChunk) {
    chunk = memory_->capabilities().whole_text ? std::max<int64_t>(1, total) : kDefaultChunk;
  }
  // A text that cannot be held whole is refused before any of it is run.
  if (total > chunk) {
    const StepPlan plan = memory_->plan(total, following);
    MNEME_CHECK(!plan.out_of_reach, plan.refusal);
  }
  int64_t done = 0;
  while (done < total) {
    const auto part = tokens.subspan(static_cast<size_t>(done),
                                     static_cast<size_t>(std::min(chunk, total - done)));
    const bool last = done + std::ssize(part) == total;
    const int64_t left = total - done - std::ssize(part) + following;
    replay_prefix(*model_, *pool_, *memory_, seen, std::ssize(part), left);
    const SequenceStep step{part, memory_.get(), last ? Logits::kLast : Logits::kNone, left};
    const std::span<const float> rows = model_->forward({&step, 1}, *pool_);
    seen.insert(seen.end(), part.begin(), part.end());
    logits_.assign(rows.begin(), rows.end());
    done += std::ssize(part);
    if (progress && !progress(done, total)) break;
  }
  return done;
}

std::vector<int32_t> Session::filtered(const PromptFilter& filter, std::span<const int32_t> tokens,
                                       int64_t chunk, const PrefillProgress& progress,
                                       int64_t& pass_bytes) {
  const auto total = static_cast<int64_t>(tokens.size());
  if (filter.kept(total) >= total) return {tokens.begin(), tokens.end()};
  const std::unique_ptr<SequenceMemory> pass = filter.make_pass();
  if (chunk == kChosenChunk) chunk = total;
  for (int64_t done = 0; done < total;) {
    const auto part = tokens.subspan(static_cast<size_t>(done),
                                     static_cast<size_t>(std::min(chunk, total - done)));
    done += std::ssize(part);
    const SequenceStep step{part, pass.get(), Logits::kNone, total - done};
    model_->forward({&step, 1}, *pool_);
    if (progress && !progress(done, total)) return {};
  }
  pass_bytes = pass->peak_bytes();
  std::vector<int32_t> chosen;
  for (const int32_t index : filter.chosen(*pass))
    chosen.push_back(tokens[static_cast<size_t>(index)]);
  return chosen;
}

int64_t Session::append_filtered(std::span<const int32_t> tokens, int64_t chunk,
                                 const PrefillProgress& progress) {
  std::vector<int32_t> text = tokens_;
  text.insert(text.end(), tokens.begin(), tokens.end());
  // What was chosen for the text before is no beginning of what is chosen now.
  int64_t pass_bytes = 0;
  const std::vector<int32_t> chosen =
      filtered(*memory_->prompt_filter(), text, chunk, progress, pass_bytes);
  if (chosen.empty()) return 0;  // stopped
  memory_->trim(0);
  memory_->count_filtered(std::ssize(text) - std::ssize(chosen), pass_bytes);
  tokens_.clear();
  logits_.clear();
  std::vector<int32_t> seen;
  run(chosen, chunk, {}, 0, seen);
  tokens_ = std::move(text);
  return std::ssize(tokens);
}

void Session::append_visiting(std::span<const int32_t> tokens, int64_t chunk,
                              const std::function<void(int64_t, std::span<const float>)>& visit) {
  MNEME_CHECK(chunk > 0, "session: the chunk must be positive, got ", chunk);
  const auto vocabulary = static_cast<size_t>(model_->config().vocabulary);
  for (size_t at = 0; at < tokens.size(); at += static_cast<size_t>(chunk)) {
    const auto part = tokens.subspan(at, std::min(static_cast<size_t>(chunk), tokens.size() - at));
    replay_prefix(*model_, *pool_, *memory_, tokens_, std::ssize(part), 0);
    const SequenceStep step{part, memory_.get(), Logits::kAll};
    const std::span<const float> rows = model_->forward({&step, 1}, *pool_);
    const auto first = static_cast<int64_t>(tokens_.size());
    tokens_.insert(tokens_.end(), part.begin(), part.end());
    for (size_t i = 0; i < part.size(); ++i)
      visit(first + static_cast<int64_t>(i), rows.subspan(i * vocabulary, vocabulary));
    logits_.assign(rows.end() - static_cast<int64_t>(vocabulary), rows.end());
  }
}

int64_t Session::advance_to(std::span<const int32_t> tokens, int64_t chunk,
                            const PrefillProgress& progress) {
  MNEME_CHECK(!tokens.empty(), "session: a prompt needs at least one token");
  const auto [ours, theirs] = std::ranges::mismatch(tokens_, tokens);
  int64_t reused = ours - tokens_.begin();
  const bool complete = theirs == tokens.end();
  if (complete && reused == static_cast<int64_t>(tokens_.size()) && !logits_.empty()) return reused;
  if (memory_->prompt_filter() != nullptr) {
    memory_->trim(0);
    tokens_.clear();
    logits_.clear();
    append(tokens, chunk, progress);
    return 0;
  }
  if (complete) --reused;  // logits after the last token come from running it
  if (reused < static_cast<int64_t>(tokens_.size())) {
    memory_->trim(reused);
    tokens_.resize(static_cast<size_t>(reused));
    logits_.clear();
  }
  append(tokens.subspan(static_cast<size_t>(reused)), chunk, progress);
  return reused;
}

Session Session::fork() const {
  Session copy(*model_, *pool_, memory_->fork(), tokens_);
  copy.logits_ = logits_;
  return copy;
}

}  // namespace mneme
