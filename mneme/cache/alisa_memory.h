// Sparse window attention over three tiers: while decoding, a layer reads the newest k tokens and the k
// older ones that recent queries looked at most, the same for all its heads; so whole tokens can leave
// the fast memory, quantised to a slow tier or, at the beginning of the first text, deleted and run
// through the model again when they are chosen. Nothing is forgotten. (papers/12; ALISA, ISCA 2024.)
//
//   text     dense over all tokens; its last queries' weights are the first history
//   decode   the set was chosen when the step before ended (attention_history.h): the new query has no
//            say in it, which is why slow tokens can be fetched and deleted ones recomputed in time
//   commit   tokens move by the schedule (simulate/tier_schedule.h), in blocks (tiered_tokens.h)
//
//   token    [kv_heads, k_dim + v_dim] in one run of bytes, one set of tokens for all heads of a layer
//   query    [q_heads, k_dim] over the chosen and the newest k  ->  out [q_heads, v_dim] and weights
//            [2 k] summed over the heads, the next row of the history
//
// Where tokens lie changes no bit of an answer, unless slow tokens are quantised. The fast tier holds
// `capacity` tokens of every layer, one block of them for what is being written. A text in one step is
// whole in one layer at a time. Layers with a window of their own keep that window and no more.
// Bytes: history of k + 1 queries, 4 bytes for every token that a query saw: for long texts more than
// the keys and values themselves. Tests: alisa_memory_test.cc, runtime/policy_golden_test.cc.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "mneme/cache/attention_history.h"
#include "mneme/cache/prefix_replay.h"
#include "mneme/cache/tiered_tokens.h"
#include "mneme/kernels/row_page.h"

namespace mneme {

struct AlisaOptions {
  double ratio = 0.2;    // share of the tokens that a query reads, in (0, 1]
  int64_t capacity = 0;  // tokens of the fast tier; 0: all, and nothing moves
  TierSchedule schedule;
  bool p1_at_overflow = true;  // instead of schedule.p1: the first step that overflows the capacity
  int64_t slow_bits = 8;       // 8, 4; 0: as in the fast tier
  int64_t block = 64;          // tokens that move together
  DType dtype = DType::kF16;   // of the fast tier: kF32 or kF16
  bool in_file = false;        // the slow tier lies in a file
  std::string folder;          // of that file; empty: BlockStore::default_folder()
};

class AlisaMemory final : public SequenceMemory, public PrefixReplay {
 public:
  // Throws Error naming the option that does not fit, or fit the shape.
  AlisaMemory(std::string spec, MemoryShape shape, AlisaOptions options);

  const AlisaOptions& options() const { return options_; }
  // Older tokens that the next query of a layer reads; nothing where it reads all there are.
  std::span<const int32_t> chosen(int64_t layer) const { return at(layer).chosen; }
  // All the tokens that the layer's last decoding query read, increasing.
  std::span<const int32_t> read(int64_t layer) const { return at(layer).read; }
  // What the last decoding step did; its time is left 0.
  const TierStep& last_step() const { return traffic_; }
  TierRules rules() const;
  TierPlacement placement() const;
  int64_t file_bytes() const { return slow_store_->file_bytes(); }

  const std::string& spec() const override { return spec_; }
  const MemoryShape& shape() const override { return shape_; }
  Capabilities capabilities() const override {
    return {.fork = true, .persist = true, .whole_text = true, .decodes_apart = true};
  }
  int64_t length() const override { return length_; }
  PrefixReplay* prefix_replay() override { return this; }
  StepPlan plan(int64_t tokens, int64_t following) const override;
  void begin(const StepPlan& plan) override;
  void attend(const LayerStep& step, ThreadPool& pool) override;
  void commit() override;
  void abort() override;
  std::string cannot_trim_to(int64_t length) const override;
  void trim(int64_t length) override;
  std::unique_ptr<SequenceMemory> fork() const override;
  // For each layer "L<layer>_fast" and "L<layer>_slow" U8 [blocks, bytes], "L<layer>_history_*";
  // "alisa_state" I64 and "alisa_settings" U8, which must be the same.
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state, int64_t length) override;
  int64_t resident_bytes() const override;  // without the file
  int64_t peak_bytes() const override { return peak_bytes_; }
  int64_t predict_bytes(int64_t length) const override;
  void set_budget(int64_t bytes) override { budget_bytes_ = bytes; }

  int64_t wanted(int64_t tokens, int64_t following) const override;
  std::unique_ptr<SequenceMemory> make_pass(int64_t tokens, int64_t following) const override;
  void take(const SequenceMemory& pass) override;

 private:
  struct Layer {
    TieredTokens tokens;
    AttentionHistory history;
    std::vector<int32_t> chosen, read;
    // Of the step under way: the history after a text, the weights of a decoding query.
    std::optional<AttentionHistory> text;
    std::vector<float> weights;
    // Deleted tokens that were run again for the next step.
    std::vector<int32_t> replayed;
    std::vector<std::byte> replayed_bytes;
  };
  AlisaMemory(const AlisaMemory& other) = default;

  Layer& at(int64_t layer) { return layers_[static_cast<size_t>(layer)]; }
  const Layer& at(int64_t layer) const { return layers_[static_cast<size_t>(layer)]; }
  Layer new_layer() const;
  RowListAttention rows() const { return layout_.rows; }
  // Of rows of the fast tier in pages, for dense attention.
  RowFormat page_format() const {
    return {.encoding = options_.dtype == DType::kF16 ? RowEncoding::kF16 : RowEncoding::kF32,
            .k_dim = shape_.k_dim,
            .v_dim = shape_.v_dim};
  }
  int64_t window_of(int64_t layer) const { return shape_.windows[static_cast<size_t>(layer)]; }
  static bool decodes(int64_t tokens, int64_t following) { return tokens == 1 && following == 0; }
  static bool decodes(const StepPlan& step) { return decodes(step.tokens, step.following); }
  // A whole text from the beginning: layers come and move one by one.
  bool fresh(const StepPlan& step) const {
    return length_ == 0 && step.following == 0 && step.tokens > 1;
  }
  // The schedule as it stands after a text of `prompt` tokens.
  TierSchedule schedule_after(int64_t prompt) const;
  // Of layers that see all, after a step that ends with n tokens.
  TierPlacement next_placement(const StepPlan& step) const;
  // Deleted tokens that a layer needs: for a decoding query those it reads, for a text all.
  std::vector<int32_t> missing(const Layer& layer, bool decodes) const;
  std::string refusal(const StepPlan& step) const;

  void write_rows(const LayerStep& step, ThreadPool& pool);
  void attend_text(const LayerStep& step, ThreadPool& pool);
  void remember_text(const LayerStep& step, const struct AlisaPages& pages, ThreadPool& pool);
  void attend_token(const LayerStep& step, ThreadPool& pool);
  // The token as a fast one lies: in place, or made in `room`.
  const std::byte* token(const Layer& layer, int64_t position, std::byte* room) const;
  void drop_replayed();
  std::string settings_text() const;
  int64_t layer_bytes(int64_t layer, int64_t length) const;

  std::string spec_;
  MemoryShape shape_;
  AlisaOptions options_;
  TierLayout layout_;
  std::shared_ptr<BlockStore> fast_store_, slow_store_;
  std::vector<Layer> layers_;
  int64_t length_ = 0;
  int64_t first_text_ = 0;  // tokens of the first text: those that may be deleted
  int64_t prompt_ = 0;      // tokens when the last text ended
  bool in_text_ = false;    // its end is still to come
  StepPlan step_;           // under way; 0 tokens: none
  int64_t next_layer_ = 0;
  TierStep traffic_;
  int64_t peak_bytes_ = 0, budget_bytes_ = 0;
};

}  // namespace mneme
