// Which rows a paged memory keeps and which of them a query may see. Storage, formats, forks and
// files are shared code (paged_memory.h); a policy says only this. One policy is one file in
// cache/policy/.
#pragma once

#include <cstdint>
#include <memory>

namespace mneme {

// The rows a query at position p sees: positions > p - window, and the first `sink` ones. window 0:
// all.
struct Visibility {
  int64_t window = 0;
  int64_t sink = 0;
};

class RowPolicy {
 public:
  virtual ~RowPolicy() = default;
  // For a layer whose model window is `model_window` (0: none).
  virtual Visibility visibility(int64_t model_window) const = 0;
  // True when every row the model itself would see is seen.
  virtual bool exact() const = 0;
  // True when no query sees further back than a fixed distance, however long the sequence.
  virtual bool bounded() const = 0;
};

}  // namespace mneme
