#include "mneme/train/mixed_attention.h"

#include <ATen/ATen.h>
#include <ATen/core/grad_mode.h>

#include "mneme/core/error.h"

namespace mneme::train {

using at::Tensor;

Tensor visible_mask(int64_t queries, int64_t keys, const RowWindow& window, int64_t last_full) {
  MNEME_CHECK(queries > 0 && keys >= queries, "visible_mask: ", queries, " queries of ", keys,
              " positions");
  Tensor mask = at::zeros({queries, keys}, at::kBool);
  bool* out = mask.data_ptr<bool>();
  for (int64_t i = 0; i < queries; ++i) {
    const int64_t p = keys - queries + i;
    const bool all = i >= queries - last_full;
    for (int64_t j = 0; j <= p; ++j)
      out[i * keys + j] = all || j < window.sink || j >= window.first(p);
  }
  return mask;
}

Tensor masked_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& sees,
                        double scale) {
  const int64_t group = q.size(1) / k.size(1);
  MNEME_CHECK(group * k.size(1) == q.size(1), "masked_attention: KV heads (", k.size(1),
              ") must divide query heads (", q.size(1), ")");
  return at::scaled_dot_product_attention(q, k.repeat_interleave(group, 1),
                                          v.repeat_interleave(group, 1), sees, 0, false, scale);
}

Tensor mixed_attention(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& z,
                       const Tensor& full, const Tensor& streaming, double scale) {
  MNEME_CHECK(z.dim() == 1 && z.size(0) == q.size(0), "mixed_attention: expected z [", q.size(0),
              "], got ", z.sizes());
  const Tensor share = z.reshape({-1, 1, 1, 1}).to(q.scalar_type());
  const Tensor taken = z.detach().gt(0.5).reshape({-1, 1, 1, 1});
  if (!at::equal(z.detach(), z.detach().gt(0.5).to(z.scalar_type()))) {
    return share * masked_attention(q, k, v, full, scale) +
           (1 - share) * masked_attention(q, k, v, streaming, scale);
  }
  const Tensor o = masked_attention(q, k, v, at::where(taken, full, streaming), scale);
  if (!z.requires_grad()) return o;
  Tensor difference;
  {
    const at::NoGradGuard no_graph;
    const Tensor other = masked_attention(q, k, v, at::where(taken, streaming, full), scale);
    difference = at::where(taken, o - other, other - o);  // full - streaming
  }
  return o + (share - share.detach()) * difference;
}

}  // namespace mneme::train
