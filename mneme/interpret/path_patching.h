// Path patching (papers/34 section 3.3): what a single attention head contributes to the next token,
// found by exchanging its output at the last position for the one it has on a corrupt prompt.
//
//   direct effect: every other head keeps its output of the clean run; embeddings, norms and
//     feed-forward layers are computed anew
//   total effect: later heads are computed anew too
//
// With all heads frozen nothing reaches the last position but its own token, so a direct patch is a
// pass of one token without attention. FrozenHeads is the memory such passes run on: it answers
// attention with outputs that were recorded, so the model itself does the rest, many patches a step.
// Tests: path_patching_test.cc, conflict_golden_test.cc.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mneme/core/head_table.h"
#include "mneme/models/decoder.h"
#include "mneme/models/head_edits.h"

namespace mneme {

// A run's last position.
struct LastPosition {
  std::vector<float> heads;   // [layers, q_heads, head_dim] outputs before the output projection
  std::vector<float> logits;  // [vocabulary]
};

// Under a memory of float32 rows. Throws Error on an empty prompt.
LastPosition record_last_position(DecoderModel& model, ThreadPool& pool,
                                  std::span<const int32_t> tokens);

// Answers row t of a step with the recorded heads, but for head senders[t], whose output comes from
// the other recording. Holds no rows: a step may have any number of tokens up to senders.size(), and
// is forgotten.
class FrozenHeads final : public SequenceMemory {
 public:
  // position: that of the recorded token. clean, corrupt [layers, q_heads, v_dim] and senders outlive
  // it. A layer of -1 in a sender: nothing is exchanged.
  FrozenHeads(MemoryShape shape, int64_t position, std::span<const float> clean,
              std::span<const float> corrupt, std::span<const HeadId> senders);

  const std::string& spec() const override { return spec_; }
  const MemoryShape& shape() const override { return shape_; }
  Capabilities capabilities() const override { return {}; }
  int64_t length() const override { return position_; }
  StepPlan plan(int64_t tokens, int64_t following) const override;
  void begin(const StepPlan& plan) override;
  void attend(const LayerStep& step, ThreadPool& pool) override;
  void commit() override { tokens_ = 0; }
  void abort() override { tokens_ = 0; }
  std::string cannot_trim_to(int64_t length) const override;
  void trim(int64_t length) override;
  std::unique_ptr<SequenceMemory> fork() const override;
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state, int64_t length) override;
  int64_t resident_bytes() const override { return 0; }
  int64_t peak_bytes() const override { return 0; }
  int64_t predict_bytes(int64_t length) const override;
  void set_budget(int64_t bytes) override;

 private:
  std::string spec_ = "frozen-heads";
  MemoryShape shape_;
  int64_t position_;
  std::span<const float> clean_, corrupt_;
  std::span<const HeadId> senders_;
  int64_t tokens_ = 0;  // of the step under way
};

// visit(sender, logits of the last position [vocabulary]) for every head of the model in order.
using PatchVisit = std::function<void(const HeadId& sender, std::span<const float> logits)>;

// clean and corrupt are recordings of prompts of one length; the clean one ends in `last_token` at
// `position`. Cost: a pass of one token without attention a head, all logits included.
void patch_direct_paths(DecoderModel& model, ThreadPool& pool, int32_t last_token, int64_t position,
                        const LastPosition& clean, const LastPosition& corrupt,
                        const PatchVisit& visit);

// The same with later heads computed anew: a decode step a head, on forks of the clean prompt.
void patch_total_effects(DecoderModel& model, ThreadPool& pool,
                         std::span<const int32_t> clean_tokens, const LastPosition& corrupt,
                         const PatchVisit& visit);

}  // namespace mneme
