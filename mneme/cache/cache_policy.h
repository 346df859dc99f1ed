// What a paged memory keeps and what its queries read: the rules of one sequence with the state they
// need. Storage, formats, forks and files are shared code (paged_memory.h); a policy says only this,
// in one file of cache/policy/. For every layer of a step, after its rows were written:
//
//   policy.enter(step, rows)      before the layer's attention: decides windows, picks rows to read
//   ... attention over policy.window() and policy.reads() ...
//   policy.leave(step, seen, rows) with the softmax weights it asked for by watch(): lets rows go
//
// and at the end committed() or aborted(). What a policy lets go in the middle of a step is gone at
// once where the step is a whole text from its beginning, which can be run again; otherwise the
// memory waits for the commit. Tests: those of the policies, policy_testing.h.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mneme/cache/memory.h"
#include "mneme/cache/paged_rows.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme {

// Whether a step is the end of a text. A single token that continues none is decoding.
inline bool ends_text(int64_t tokens, int64_t following, bool continues) {
  return (tokens > 1 || continues) && following == 0;
}

// One layer of a step, as a policy sees it.
struct PolicyStep {
  const LayerStep& layer;      // queries, keys and values as the model gave them
  const float* q = nullptr;    // [tokens, q_heads, k_dim] queries as the stored keys want them
  int64_t tokens = 0;          // of the step
  int64_t first_position = 0;  // of its first token
  int64_t following = 0;       // tokens of the same text that later steps will bring
  bool continues = false;      // earlier steps brought the beginning of the text

  int64_t end() const { return first_position + tokens; }
  bool text_ends() const { return ends_text(tokens, following, continues); }
  bool decodes() const { return tokens == 1 && following == 0 && !continues; }
};

// The softmax weights a policy wants to see of a layer.
struct Watch {
  int64_t queries = 0;  // those of the text's newest queries, one by one: at most query_window()
  bool sums = false;    // those of all the step's queries and the heads of a KV head, summed
};

struct SeenWeights {
  int64_t queries = 0;             // as many as were asked for or the text has
  const float* weights = nullptr;  // [queries, q_heads, stride], oldest query first; rows in order
  int64_t stride = 0;
  std::span<const std::span<const double>> sums;  // [kv_heads][rows]

  std::span<const float> row(int64_t query, int64_t q_heads, int64_t head, int64_t rows) const {
    return {weights + (query * q_heads + head) * stride, static_cast<size_t>(rows)};
  }
};

// The rows of the memory, through which a policy lets go of some.
class PolicyRows {
 public:
  virtual ~PolicyRows() = default;
  virtual const PagedRows& of(int64_t layer, int64_t head) const = 0;
  // Keeps only the rows with these indices (increasing) of one KV head, at once or at the commit.
  // One call for each head and step where it has to wait.
  virtual void keep(int64_t layer, int64_t head, std::span<const int64_t> indices) = 0;
  // The same for all rows but one.
  virtual void drop(int64_t layer, int64_t head, int64_t index) = 0;
  // Whether these act at once.
  virtual bool at_once() const = 0;
};

class CachePolicy {
 public:
  explicit CachePolicy(MemoryShape shape) : shape_(std::move(shape)) {}
  virtual ~CachePolicy() = default;
  CachePolicy& operator=(const CachePolicy&) = delete;

  // The same with the same state, for a fork.
  virtual std::unique_ptr<CachePolicy> clone() const = 0;

  const MemoryShape& shape() const { return shape_; }

  // What the layer's queries may see; to begin with what the model itself sees there.
  virtual RowWindow window(int64_t layer, int64_t head) const {
    (void)head;
    return {.window = shape_.windows[static_cast<size_t>(layer)]};
  }
  // Every row the model itself would see is seen, at every step.
  virtual bool exact() const { return false; }
  // No query sees further back than a fixed distance, however long the sequence.
  virtual bool bounded() const { return false; }
  // Rows may leave at any place, not only out of window().
  virtual bool evicts() const { return false; }
  // What it remembers names rows by their positions, which must then stay theirs.
  virtual bool names_positions() const { return false; }
  // A text is best run in one step: rows leave layer by layer, so that only one layer is whole.
  virtual bool wants_whole_text() const { return false; }
  // A token alone is answered otherwise than in a step of several: rows go or fewer are read.
  virtual bool decodes_apart() const { return false; }
  // Why a step of `tokens` tokens that ends at `end` cannot be; empty when it can. Asked by plan().
  virtual std::string refusal(int64_t tokens, int64_t end, int64_t following) const {
    (void)tokens, (void)end, (void)following;
    return "";
  }
  // Rows that a KV head of `layer` holds, at most, after a text of `length` tokens: for
  // predictions. Only asked where evicts().
  virtual int64_t settled_rows(int64_t layer, int64_t length) const {
    (void)layer;
    return length;
  }
  // The most queries that watch() will ever ask for: so many are remembered from step to step of a
  // text.
  virtual int64_t query_window() const { return 0; }

  // Queries before rotary positions that enter() wants of a step of `tokens` tokens, of its first and
  // of its last ones (LayerStep); at most `tokens`.
  virtual int64_t unrotated_rows(int64_t tokens) const {
    (void)tokens;
    return 0;
  }

  virtual void enter(const PolicyStep& step, const PolicyRows& rows) { (void)step, (void)rows; }
  // The pages each KV head's queries read in this step, or nothing for all. Valid until the next
  // enter().
  virtual std::span<const std::span<const PageView>> reads() const { return {}; }
  virtual Watch watch(const PolicyStep& step) const {
    (void)step;
    return {};
  }
  virtual void leave(const PolicyStep& step, const SeenWeights& seen, PolicyRows& rows) {
    (void)step, (void)seen, (void)rows;
  }
  virtual void committed() {}
  virtual void aborted() {}
  // Everything was forgotten: as when it was made.
  virtual void cleared() {}

  // What it remembers beyond the rows, to be saved with them; load_state() gets it back and trusts
  // nothing in it. Names begin with "policy_".
  virtual std::vector<StateTensor> save_state() const { return {}; }
  virtual void load_state(const TensorSource& state) { (void)state; }
  // Bytes of what it remembers beyond the rows; and what they will be after `length` tokens, for
  // predictions.
  virtual int64_t state_bytes() const { return 0; }
  virtual int64_t settled_state_bytes(int64_t length) const {
    (void)length;
    return state_bytes();
  }

 protected:
  CachePolicy(const CachePolicy&) = default;

 private:
  MemoryShape shape_;
};

using PolicyMaker = std::function<std::unique_ptr<CachePolicy>(const MemoryShape&)>;

}  // namespace mneme
