// torch.ops.mneme: what torch.ops.load_library("build/lib/libmneme_ops.so") brings to Python.
//
//   o, lse = torch.ops.mneme.flash_attention(q, k, v, scale=None, causal=False, window_left=-1,
//       window_right=-1, softcap=0.0, alibi_slopes=None, dropout_p=0.0, seed=0, offset=0,
//       heads_first=False)
//   o, lse = torch.ops.mneme.flash_attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k, ...)
//
// with the meaning and limits of mneme/attention/flash_attention.h; differentiable. Test:
// python/mneme_ops_test.py.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/library.h>

#include "mneme/attention/flash_attention.h"

namespace {

using at::Tensor;
using Pair = std::tuple<Tensor, Tensor>;

mneme::FlashOptions gather(std::optional<double> scale, bool causal, int64_t window_left,
                           int64_t window_right, double softcap,
                           const std::optional<Tensor>& alibi_slopes, double dropout_p,
                           int64_t seed, int64_t offset) {
  mneme::FlashOptions options;
  options.scale = scale;
  options.causal = causal;
  options.window_left = window_left;
  options.window_right = window_right;
  options.softcap = softcap;
  options.alibi_slopes = alibi_slopes.value_or(Tensor());
  options.dropout_p = dropout_p;
  options.dropout_seed = seed;
  options.dropout_offset = offset;
  return options;
}

Pair flash_attention(const Tensor& q, const Tensor& k, const Tensor& v, std::optional<double> scale,
                     bool causal, int64_t window_left, int64_t window_right, double softcap,
                     const std::optional<Tensor>& alibi_slopes, double dropout_p, int64_t seed,
                     int64_t offset, bool heads_first) {
  mneme::FlashOptions options = gather(scale, causal, window_left, window_right, softcap,
                                       alibi_slopes, dropout_p, seed, offset);
  options.heads_first = heads_first;
  return mneme::flash_attention(q, k, v, options);
}

Pair flash_attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v,
                            const Tensor& cu_seqlens_q, const Tensor& cu_seqlens_k,
                            std::optional<double> scale, bool causal, int64_t window_left,
                            int64_t window_right, double softcap,
                            const std::optional<Tensor>& alibi_slopes, double dropout_p,
                            int64_t seed, int64_t offset) {
  return mneme::flash_attention_varlen(q, k, v, cu_seqlens_q, cu_seqlens_k,
                                       gather(scale, causal, window_left, window_right, softcap,
                                              alibi_slopes, dropout_p, seed, offset));
}

// Shapes alone, for fake tensors and torch.compile.
Pair flash_attention_shapes(const Tensor& q, const Tensor&, const Tensor&, std::optional<double>,
                            bool, int64_t, int64_t, double, const std::optional<Tensor>&, double,
                            int64_t, int64_t, bool heads_first) {
  const auto heads = q.sym_size(heads_first ? 1 : 2), tokens = q.sym_size(heads_first ? 2 : 1);
  const auto type = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {at::empty_like(q, at::MemoryFormat::Contiguous),
          at::empty_symint({q.sym_size(0), heads, tokens}, q.options().dtype(type))};
}

Pair flash_attention_varlen_shapes(const Tensor& q, const Tensor&, const Tensor&, const Tensor&,
                                   const Tensor&, std::optional<double>, bool, int64_t, int64_t,
                                   double, const std::optional<Tensor>&, double, int64_t, int64_t) {
  const auto type = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  return {at::empty_like(q, at::MemoryFormat::Contiguous),
          at::empty_symint({q.sym_size(1), q.sym_size(0)}, q.options().dtype(type))};
}

}  // namespace

TORCH_LIBRARY(mneme, library) {
  library.def(
      "flash_attention(Tensor q, Tensor k, Tensor v, float? scale=None, bool causal=False, "
      "int window_left=-1, int window_right=-1, float softcap=0.0, Tensor? alibi_slopes=None, "
      "float dropout_p=0.0, int seed=0, int offset=0, bool heads_first=False) -> (Tensor, Tensor)");
  library.def(
      "flash_attention_varlen(Tensor q, Tensor k, Tensor v, Tensor cu_seqlens_q, "
      "Tensor cu_seqlens_k, float? scale=None, bool causal=False, int window_left=-1, "
      "int window_right=-1, float softcap=0.0, Tensor? alibi_slopes=None, float dropout_p=0.0, "
      "int seed=0, int offset=0) -> (Tensor, Tensor)");
}

// The function knows its own gradient, so one implementation serves both keys.
TORCH_LIBRARY_IMPL(mneme, CPU, library) {
  library.impl("flash_attention", &flash_attention);
  library.impl("flash_attention_varlen", &flash_attention_varlen);
}
TORCH_LIBRARY_IMPL(mneme, AutogradCPU, library) {
  library.impl("flash_attention", &flash_attention);
  library.impl("flash_attention_varlen", &flash_attention_varlen);
}
TORCH_LIBRARY_IMPL(mneme, Meta, library) {
  library.impl("flash_attention", &flash_attention_shapes);
  library.impl("flash_attention_varlen", &flash_attention_varlen_shapes);
}
