// Counts how many nodes of a template are being evaluated at once, so that recursion ends with an
// Error and not with the stack.
#pragma once

#include "mneme/core/error.h"
#include "mneme/io/jinja/limits.h"

namespace mneme::jinja {

class Nesting {
 public:
  explicit Nesting(int* depth) : depth_(depth) {
    MNEME_CHECK(*depth_ < kMaxEvaluationDepth, "the template recurses deeper than ",
                kMaxEvaluationDepth, " nodes");
    ++*depth_;
  }
  ~Nesting() { --*depth_; }
  Nesting(const Nesting&) = delete;
  Nesting& operator=(const Nesting&) = delete;

 private:
  int* depth_;
};

}  // namespace mneme::jinja
