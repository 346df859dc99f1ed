// The router of Flux Attention (2026, arXiv 2604.07394; qqtang-code/FluxAttention): a small network
// that looks at a prompt's pooled queries and says whether a layer needs full attention.
//
//   u = mean over heads of mean over tokens of concat(q[0 : p], q[S - p : S])       [D]
//   f = W2 silu(W0 u + b0) + b2                         cls_feat_extractor, D -> 8D -> 2D
//   l = V4 silu(V2 silu(V0 f + c0) + c2) + c4           cls_router_head_agnostic, 2D -> 4D -> D -> n
//   full attention  iff  l[1] > l[0] (n = 2, softmax)  or  l[0] > 0 (n = 1, sigmoid)
//
// q are queries before rotary positions (after the query norm where a model has one), D = head_dim.
// A prompt shorter than p counts all of its rows twice. Parameters have the names of the official
// state dict, "model.layers.<l>.self_attn.mask_allocator.cls_feat_extractor.0.weight" and so on.
// Trained by mneme/train. Tests: flux_router_test.cc (golden 22).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "mneme/core/tensor_view.h"

namespace mneme {

inline constexpr int64_t kFluxLinears = 5;
// The linear layers of a router in the order in which they are applied, within its prefix.
const std::string& flux_linear_name(int64_t index);
// "model.layers.<layer>.self_attn.mask_allocator."
std::string flux_router_prefix(int64_t layer);

// Rows [begin, end) of a prompt.
struct RowSpan {
  int64_t begin = 0, end = 0;
};
// u of the rows of all spans: q [rows, heads, dim] -> [dim]; zeros where there are no rows.
std::vector<float> flux_pool(const float* q, std::span<const RowSpan> spans, int64_t heads,
                             int64_t dim);
// The spans of a whole prompt of `rows` rows.
std::vector<RowSpan> flux_prompt_ends(int64_t rows, int64_t pool);

class FluxRouter {
 public:
  // Its tensors, each after `prefix`, float of any width. Throws Error naming the file, the tensor
  // and the shape expected.
  static FluxRouter load(const TensorSource& source, const std::string& prefix, int64_t head_dim);

  int64_t head_dim() const { return linears_.front().in; }
  // u [D] -> f [2D].
  std::vector<float> features(std::span<const float> pooled) const;
  // f [2D] -> l [2] or [1].
  std::vector<float> logits(std::span<const float> features) const;
  static bool full(std::span<const float> logits);
  bool chooses_full(std::span<const float> pooled) const { return full(logits(features(pooled))); }
  int64_t bytes() const;

 private:
  struct Linear {
    int64_t in = 0, out = 0;
    std::vector<float> weight, bias;  // [out, in], [out]
  };
  std::vector<float> apply(int64_t first, int64_t end, std::span<const float> x) const;

  std::vector<Linear> linears_;  // [kFluxLinears]
};

// The routers of one model, from a file. Routers are weights: read once, shared by every memory of the
// process that names the same file.
class FluxRouters {
 public:
  // A router for each layer that is `needed` [layers]; others in the source are not read. Throws Error
  // naming what is missing or does not fit head_dim.
  FluxRouters(const TensorSource& source, const std::vector<bool>& needed, int64_t head_dim);
  // The same from a safetensors file.
  static std::shared_ptr<const FluxRouters> open(const std::string& path,
                                                 const std::vector<bool>& needed, int64_t head_dim);

  // Null where the layer has none.
  const FluxRouter* of(int64_t layer) const {
    const auto& router = routers_[static_cast<size_t>(layer)];
    return router ? router.get() : nullptr;
  }

 private:
  std::vector<std::unique_ptr<FluxRouter>> routers_;  // [layers]
};

}  // namespace mneme
