// The memory protocol: what a sequence model needs from any memory that stands in for attention
// over its past.
//
// A step writes `tokens` new positions and answers their queries, layer after layer:
//
//   StepPlan plan = memory.plan(tokens);   what it will take, or why it cannot be; changes nothing
//   memory.begin(plan);                    reserves; the only call of a step that allocates
//   for each layer: memory.attend(...);    writes the layer's rows, answers its queries
//   memory.commit();                       the step counts: evicts what the policy lets go
//   memory.abort();                        instead of commit: as if the step had never begun
//
// Queries and keys arrive with rotary positions applied, except where a memory asks for them without
// (Capabilities::unrotated, or a few queries besides: StepPlan::unrotated_rows). Implementations:
// paged_memory.h, landmark_memory.h. Built from a spec string by memory_registry.h. Saved and loaded
// by memory_file.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "mneme/core/tensor_view.h"
#include "mneme/core/thread_pool.h"
#include "mneme/kernels/elementwise.h"

namespace mneme {

// How a layer turns queries and keys by their positions (rope_table() and rope() of elementwise.h).
struct RotaryPositions {
  RopePairs pairs = RopePairs::kHalves;
  double base = 10000;
  double scale = 1;            // positions are divided by it
  std::vector<float> factors;  // [k_dim / 2] each frequency is divided by its own; empty: none

  bool operator==(const RotaryPositions&) const = default;
};

// What a model asks of its memory.
struct MemoryShape {
  int64_t q_heads = 0;
  int64_t kv_heads = 0;  // divides q_heads
  int64_t k_dim = 0;
  int64_t v_dim = 0;
  int64_t context = 0;  // positions the model was trained for
  // [layers] positions a layer sees (its own included); 0: all of them
  std::vector<int64_t> windows;
  // [layers] what a memory that asks for unrotated rows has to apply; empty: the model has no rotary
  // positions.
  std::vector<RotaryPositions> rotary;
  // Of weights and configuration: two models never share a saved memory.
  std::string model_fingerprint;

  int64_t layers() const { return static_cast<int64_t>(windows.size()); }
  // Whether a layer sees every position, having no window of its own; and all such layers.
  bool sees_all(int64_t layer) const { return windows[static_cast<size_t>(layer)] == 0; }
  std::vector<int64_t> layers_that_see_all() const {
    std::vector<int64_t> found;
    for (int64_t layer = 0; layer < layers(); ++layer)
      if (sees_all(layer)) found.push_back(layer);
    return found;
  }
  // Of a KV head among those of all layers.
  size_t head_index(int64_t layer, int64_t head) const {
    return static_cast<size_t>(layer * kv_heads + head);
  }
  // Bytes that one token takes in an f16 cache of all layers: the unit of logical_bytes().
  int64_t f16_bytes_per_token() const { return layers() * kv_heads * (k_dim + v_dim) * 2; }
};

// Asked, never guessed. What is false is refused with a reason when it is tried.
struct Capabilities {
  bool trim = false;     // can forget its newest positions (how far: can_trim_to)
  bool fork = false;     // can be copied without copying its rows
  bool persist = false;  // can be saved and loaded
  // Answers as attention over every position would, up to the rounding of stored rows.
  bool exact = false;
  // May go on past the trained context, because no query looks further back than that.
  bool beyond_context = false;
  // Judges a text when it ends and lets rows go then: a text should be appended whole, at best in
  // one step, where only one layer at a time holds all of its rows.
  bool whole_text = false;
  // A token alone is answered otherwise than in a step of several: while decoding, rows are let go or
  // fewer of them read. What measures decoding must go token by token.
  bool decodes_apart = false;
  // Takes queries and keys as they are before rotary positions, and applies those itself
  // (MemoryShape::rotary), because rows move.
  bool unrotated = false;
};

struct StepPlan {
  int64_t tokens = 0;
  int64_t first_position = 0;
  int64_t following = 0;  // tokens of the same text that later steps will bring
  // Attend() wants so many of the step's first queries, and of its last, before rotary positions.
  int64_t unrotated_rows = 0;
  int64_t resident_bytes = 0;  // during the step, at its largest
  int64_t settled_bytes = 0;   // after commit
  std::string refusal;         // empty: the step can be done
  // Refused because the text would end past the model's context or the last position: shorter
  // steps cannot help, as they can where a budget refuses.
  bool out_of_reach = false;

  bool possible() const { return refusal.empty(); }
};

// One layer's part of a step.
struct LayerStep {
  int64_t layer = 0;
  const float* q = nullptr;  // [T, q_heads, k_dim], T = tokens of the plan
  const float* k = nullptr;  // [T, kv_heads, k_dim]
  const float* v = nullptr;  // [T, kv_heads, v_dim]
  // [StepPlan::unrotated_rows, q_heads, k_dim] the step's first and last queries as they were before
  // rotary positions, where the plan asks for them; dimensions in the order in which rotary pairs are
  // the two halves, whatever the order of the model's file.
  const float* first_unrotated = nullptr;
  const float* last_unrotated = nullptr;
  float scale = 1;       // multiplies q . k
  float softcap = 0;     // > 0: s = softcap * tanh(s / softcap)
  float* out = nullptr;  // [T, q_heads, v_dim], overwritten
};

// A tensor of a saved memory, with its bytes.
struct StateTensor {
  std::string name;
  DType dtype = DType::kU8;
  std::vector<int64_t> shape;
  std::vector<std::byte> bytes;
};

// The tensor of a saved memory with this name, type and shape (-1: any extent). Throws Error naming
// what is missing or does not fit.
const TensorView& saved_tensor(const TensorSource& state, const std::string& name, DType dtype,
                               const std::vector<int64_t>& shape);

class PrefixReplay;
class PromptFilter;

class SequenceMemory {
 public:
  virtual ~SequenceMemory() = default;

  // The canonical spec string it was built from.
  virtual const std::string& spec() const = 0;
  virtual const MemoryShape& shape() const = 0;
  virtual Capabilities capabilities() const = 0;

  // Tokens written so far: the position of the next one.
  virtual int64_t length() const = 0;
  // What chooses the tokens of a text that are written (prompt_filter.h); null: all of them are.
  virtual const PromptFilter* prompt_filter() const { return nullptr; }
  // What runs the beginning of the text again before a step that needs rows from there which are gone
  // (prefix_replay.h); null: no step does.
  virtual PrefixReplay* prefix_replay() { return nullptr; }

  // following: tokens of the same text that later steps will bring; 0: the text ends with this step.
  virtual StepPlan plan(int64_t tokens, int64_t following = 0) const = 0;
  // Throws Error when the plan is refused or no longer fits (another step came between); the memory
  // is then unchanged.
  virtual void begin(const StepPlan& plan) = 0;
  // Layers in order, each once a step. Throws Error on rows that cannot be stored (NaN, infinity);
  // abort() then restores.
  virtual void attend(const LayerStep& step, ThreadPool& pool) = 0;
  virtual void commit() = 0;
  virtual void abort() = 0;

  // Whether trim(length) can be exact: every layer still holds the rows the next query at `length`
  // needs. Empty when it can, otherwise the reason.
  virtual std::string cannot_trim_to(int64_t length) const = 0;
  // Forgets positions >= length. Throws Error with the reason when it cannot.
  virtual void trim(int64_t length) = 0;
  // A second memory with the same content; rows are shared until one side writes to their page.
  virtual std::unique_ptr<SequenceMemory> fork() const = 0;

  // Everything it holds, as named tensors of stored bits: what memory_file.h writes.
  virtual std::vector<StateTensor> save_state() const = 0;
  // Replaces the content by what save_state() gave at `length` tokens. Trusts nothing in it: throws
  // Error naming the tensor that is missing or does not fit; the memory is then unchanged.
  virtual void load_state(const TensorSource& state, int64_t length) = 0;

  // Bytes really held now, tables included; pages shared with a fork count in both.
  virtual int64_t resident_bytes() const = 0;
  // The largest resident_bytes() since it was made, the inside of steps included.
  virtual int64_t peak_bytes() const = 0;
  // Its prompt filter left out so many tokens of the text, and its pass held so many bytes.
  virtual void count_filtered(int64_t tokens, int64_t bytes) { (void)tokens, (void)bytes; }
  // Tokens that have no position: those its prompt filter left out, or whose rows have closed ranks.
  virtual int64_t filtered_tokens() const { return 0; }
  int64_t seen_tokens() const { return length() + filtered_tokens(); }
  // What an f16 cache of every token seen would take. Never to be reported as resident.
  int64_t logical_bytes() const { return seen_tokens() * shape().f16_bytes_per_token(); }
  // resident_bytes() of an empty memory of this kind after `length` tokens, computed without
  // writing any of them.
  virtual int64_t predict_bytes(int64_t length) const = 0;
  // Limits resident_bytes(): a step that would exceed it is refused by plan(). 0: no limit.
  virtual void set_budget(int64_t bytes) = 0;
};

}  // namespace mneme
