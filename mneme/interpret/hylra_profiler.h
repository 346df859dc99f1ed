// Profiles a model for HyLRA (papers/14): reads a text, decodes its last tokens one by one, and sees
// from the softmax weights which layers need much of the cache and which read the same blocks as
// one below them. The plan is by threshold (cache/policy/hylra_search.h). Tests:
// hylra_profiler_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "mneme/cache/policy/hylra_search.h"
#include "mneme/runtime/session.h"

namespace mneme {

struct HylraStudyOptions {
  std::vector<int32_t> tokens;  // the text
  int64_t steps = 16;           // of its last tokens, decoded and watched
  HylraProfileOptions profile;
  double theta = 0.7;  // least overlap of a layer that reads another's blocks
};

struct HylraStudy {
  std::vector<int64_t> layers;  // those that see the whole text; the others compute for themselves
  std::vector<double> sensitivity;  // of those
  std::vector<int64_t> sensitive;   // indices into layers
  std::vector<double> overlap;      // [layers * layers] least over the KV heads
  std::vector<int64_t> plan;        // of every layer of the model
  bool complete = true;             // false: stopped by `progress`

  int64_t full_layers() const;
};

// Throws Error when the text is not longer than the steps or the options cannot be.
HylraStudy profile_hylra(DecoderModel& model, ThreadPool& pool, const HylraStudyOptions& options,
                         const PrefillProgress& progress = {});

}  // namespace mneme
