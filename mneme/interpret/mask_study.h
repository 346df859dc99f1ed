// What masking retrieval heads does to retrieval (papers/40 section 3.5): the best heads of a ranking
// against as many random ones, on prompts the model answers. The published experiment blinds heads
// in the decode steps alone: prompts are then run once and forked for every set of heads.
// Tests: mask_study_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/interpret/retrieval_heads.h"

namespace mneme {

enum class HeadMask {
  kUniformDecode,  // from the prompt's last token on, the heads see every row alike
  kUniformAll,     // in the prompt too
  kZero            // the heads answer nothing, everywhere
};

struct MaskOptions {
  HeadMask mode = HeadMask::kUniformDecode;
  std::vector<int64_t> counts = {5, 10, 20};
  int64_t draws = 3;   // of random heads, for each count
  int64_t spared = 0;  // random heads are none of the best so many; 0: 60, at most a quarter
  uint64_t seed = 1;
  RetrievalOptions retrieval;
};

struct MaskRow {
  bool random = false;
  std::vector<HeadId> heads;
  double recall = 0;  // mean over the prompts
};

struct MaskStudy {
  double unmasked_recall = 0;
  std::vector<MaskRow> rows;  // for each count the best heads, then the draws
  int64_t prompts = 0;        // done; fewer than given where `progress` stopped it
};

// Throws Error without prompts, on a ranking that is not of the model and on counts it cannot give.
// progress(done, total) counts prompts.
MaskStudy study_masks(DecoderModel& model, ThreadPool& pool, std::span<const NeedlePrompt> prompts,
                      const HeadTable& mean, const MaskOptions& options,
                      const PrefillProgress& progress = {});

}  // namespace mneme
