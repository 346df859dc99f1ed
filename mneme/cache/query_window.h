// The newest queries of a text, remembered from one step to the next while the text is being read in
// parts: what a policy that judges rows by the text's last queries needs at its end. Tests:
// query_window_test.cc.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace mneme {

class QueryWindow {
 public:
  // width: floats of one query of a layer, all heads.
  QueryWindow(int64_t layers, int64_t queries, int64_t width);

  // Remembers the newest of `count` queries q [count, width] of a layer, which follow those before.
  void push(int64_t layer, const float* q, int64_t count);
  // The newest min(queries, remembered + count) queries of a layer, oldest first, when q [count,
  // width] follow those remembered. Points into q where that is enough, else into `joined`.
  std::span<const float> newest(int64_t layer, const float* q, int64_t count,
                                std::vector<float>& joined) const;

  int64_t bytes() const { return static_cast<int64_t>(kept_.size() * sizeof(float)); }

 private:
  int64_t queries_, width_;
  std::vector<float> kept_;      // [layers, queries, width], oldest first
  std::vector<int64_t> counts_;  // [layers] remembered so far
};

}  // namespace mneme
