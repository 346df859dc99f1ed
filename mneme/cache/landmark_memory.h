// A memory of blocks: every block of positions is closed by a landmark key, and a query reads its own
// neighbourhood and the few older blocks whose landmarks it likes best. Nothing is compressed; old
// blocks may lie in a file. (papers/39; Mohtashami & Jaggi 2023, "Landmark Attention".)
//
// Two kinds of landmark:
//   kToken  the last position of every block is a landmark token, which the session inserts
//           (runtime/landmark_session.h) and the model was trained for; blocks are read by the
//           grouped softmax (kernels/grouped_attention.h)
//   kMean   no token: the mean of the block's keys before rotation stands for them, and all that is
//           read goes through one plain softmax. For models that know nothing of landmarks: a
//           heuristic, which is not what the paper measures
//
// A query at position p reads the blocks from n on to its own, and min(top, n) of the older ones:
//   window > 0   n = (p - window + 1) / block: at least the newest `window` positions, whatever the
//                step, so that cold, chunked, forked and restored runs agree bit for bit
//   window = 0   n = c / block with c the first position of the query's chunk (the step, cut into
//                pieces of `chunk`): the paper's streaming. Answers depend on where chunks begin
// A layer with a window of its own reads that window and nothing else.
//
// Keys are kept turned by their place in the block and queries are turned by the distance to each
// block (Capabilities::unrotated), so a fetched block stands wherever landmark_selection.h puts it;
// distances have a bound, and with it the text none. Bytes: every row, 1 / block of the keys again
// as landmarks. Tests: landmark_memory_test.cc, runtime/landmark_golden_test.cc.
#pragma once

#include <string>
#include <vector>

#include "mneme/cache/block_rows.h"
#include "mneme/cache/landmark_selection.h"
#include "mneme/cache/memory.h"
#include "mneme/cache/rotary_turns.h"
#include "mneme/kernels/grouped_attention.h"

namespace mneme {

struct LandmarkOptions {
  enum class Landmark { kToken, kMean };
  Landmark landmark = Landmark::kToken;
  int64_t block = 51;  // positions, the landmark token included
  int64_t top = 1;     // blocks a query fetches
  LandmarkSelection selection = LandmarkSelection::kPerTokenAndHead;
  BlockChooser other_rule;  // instead of the largest scores, of equal ones the lower block
  int64_t window = 0;
  // window = 0: the most positions from the last stored block to the end of a chunk. 0: what the
  // trained context holds beside the fetched blocks, context - context % block - (top + 1) * block.
  int64_t chunk = 0;
  int64_t blocks = 0;           // older blocks that are kept, the newest ones; 0: all
  DType dtype = DType::kF32;    // of rows: kF32 or kF16
  bool in_file = false;         // complete blocks go to a file
  std::string folder;           // of that file; empty: BlockStore::default_folder()
  int32_t landmark_token = -1;  // kToken: its id, which a saved memory belongs to
};

class LandmarkMemory final : public SequenceMemory {
 public:
  // Throws Error naming the option that does not fit, or fit the shape.
  LandmarkMemory(std::string spec, MemoryShape shape, LandmarkOptions options);

  const LandmarkOptions& options() const { return options_; }
  // The largest distance between a query and a row it reads.
  int64_t reach() const { return reach_; }
  // Positions that no query can fetch any more, because only the newest `blocks` blocks are kept.
  int64_t forgotten() const;
  int64_t file_bytes() const { return store_->file_bytes(); }

  const std::string& spec() const override { return spec_; }
  const MemoryShape& shape() const override { return shape_; }
  Capabilities capabilities() const override;
  int64_t length() const override { return length_; }
  StepPlan plan(int64_t tokens, int64_t following) const override;
  void begin(const StepPlan& plan) override;
  void attend(const LayerStep& step, ThreadPool& pool) override;
  void commit() override;
  void abort() override;
  std::string cannot_trim_to(int64_t length) const override;
  void trim(int64_t length) override;
  std::unique_ptr<SequenceMemory> fork() const override;
  // For each layer "L<layer>_blocks" U8 [complete blocks, bytes] and "L<layer>_open" U8 [0 or 1,
  // bytes]; "landmark_settings" U8: options and rotary positions as text, which must be the same.
  std::vector<StateTensor> save_state() const override;
  void load_state(const TensorSource& state, int64_t length) override;
  int64_t resident_bytes() const override;  // without the file
  int64_t peak_bytes() const override { return peak_bytes_; }
  int64_t predict_bytes(int64_t length) const override;
  void set_budget(int64_t bytes) override { budget_bytes_ = bytes; }

 private:
  // Queries of a step that share the block they read from on.
  struct Run {
    int64_t layer = 0;
    int64_t first = 0;  // position of the first query
    int64_t queries = 0;
    int64_t local = 0;    // n: the first block read because it is near
    int64_t older = 0;    // the first block before those that may be fetched
    int64_t fetched = 0;  // min(top, local - older)
  };
  LandmarkMemory(const LandmarkMemory& other) = default;

  bool grouped() const { return options_.landmark == LandmarkOptions::Landmark::kToken; }
  int64_t window_of(int64_t layer) const;
  bool fetches(int64_t layer) const { return shape_.sees_all(layer); }
  // n of a query at `position` in the chunk that begins at `chunk`.
  int64_t local_block(int64_t layer, int64_t position, int64_t chunk) const;
  // The first block that a query at `length` may read.
  int64_t first_block(int64_t layer, int64_t length) const;
  Run run_from(int64_t layer, int64_t position, int64_t end) const;

  void write_rows(const LayerStep& step, ThreadPool& pool);
  void close_block(BlockRows& rows, int64_t layer, int64_t head, int64_t block) const;
  void answer(const LayerStep& step, const Run& run, ThreadPool& pool);
  void score_landmarks(const LayerStep& step, const Run& run, int64_t head, int64_t query,
                       float* scores) const;
  void attend_query(const LayerStep& step, const Run& run, int64_t head, int64_t query,
                    std::span<const int32_t> fetched) const;
  std::string settings_text() const;

  std::string spec_;
  MemoryShape shape_;
  LandmarkOptions options_;
  RowBlock layout_;
  int64_t reach_ = 0;
  RotaryTurns turns_;
  std::shared_ptr<BlockStore> memory_, store_;
  std::vector<BlockRows> layers_;
  int64_t length_ = 0;
  StepPlan step_;  // under way; 0 tokens: none
  int64_t next_layer_ = 0;
  int64_t peak_bytes_ = 0;
  int64_t budget_bytes_ = 0;
};

}  // namespace mneme
