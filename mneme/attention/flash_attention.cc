#include "mneme/attention/flash_attention.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>
#include <torch/csrc/autograd/custom_function.h>

#include <cmath>
#include <memory>
#include <mutex>

#include "mneme/core/error.h"
#include "mneme/kernels/flash_attention.h"
#include "mneme/kernels/paged_attention.h"

namespace mneme {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

DType dtype_of(const Tensor& x) {
  switch (x.scalar_type()) {
    case at::kFloat:
      return DType::kF32;
    case at::kDouble:
      return DType::kF64;
    case at::kBFloat16:
      return DType::kBF16;
    case at::kHalf:
      return DType::kF16;
    default:
      fail("flash_attention: expected float32, bfloat16, float16 or float64, got ",
           c10::toString(x.scalar_type()));
  }
}

// The pool follows at::get_num_threads(); one call at a time.
struct Machine {
  std::mutex mutex;
  std::unique_ptr<ThreadPool> pool;
  AttentionScratch scratch;
};

template <typename Body>
void with_machine(Body&& body) {
  static Machine machine;
  const std::lock_guard lock(machine.mutex);
  const int threads = at::get_num_threads();
  if (machine.pool == nullptr || machine.pool->size() != threads) {
    machine.pool = std::make_unique<ThreadPool>(threads);
  }
  body(machine.scratch, *machine.pool);
}

// Tensors as the kernels take them: D contiguous.
Tensor readable(const Tensor& x) { return x.stride(-1) == 1 ? x : x.contiguous(); }

struct Shape {
  const FlashOptions& options;
  bool packed;

  int64_t tokens(const Tensor& x) const { return x.size(packed ? 0 : options.heads_first ? 2 : 1); }
  int64_t heads(const Tensor& x) const { return x.size(packed || options.heads_first ? 1 : 2); }
  HeadStrides strides(const Tensor& x) const {
    if (packed) return {0, x.stride(0), x.stride(1)};
    return options.heads_first ? HeadStrides{x.stride(0), x.stride(2), x.stride(1)}
                               : HeadStrides{x.stride(0), x.stride(1), x.stride(2)};
  }
  ConstHeads input(const Tensor& x) const { return {x.const_data_ptr(), strides(x)}; }
  MutableHeads output(const Tensor& x) const { return {x.mutable_data_ptr(), strides(x)}; }
};

void check_tensors(const Shape& shape, const Tensor& q, const Tensor& k, const Tensor& v) {
  const int64_t dims = shape.packed ? 3 : 4;
  for (const Tensor* x : {&q, &k, &v}) {
    MNEME_CHECK(x->dim() == dims, "flash_attention: expected tensors of ", dims,
                " dimensions, got one of shape ", x->sizes());
    MNEME_CHECK(x->device().is_cpu(), "flash_attention: expected CPU tensors, got one on ",
                x->device().str());
    MNEME_CHECK(x->scalar_type() == q.scalar_type(),
                "flash_attention: q, k and v must have one type, got ",
                c10::toString(q.scalar_type()), " and ", c10::toString(x->scalar_type()));
  }
  MNEME_CHECK(k.sizes() == v.sizes(), "flash_attention: k and v must have one shape, got ",
              k.sizes(), " and ", v.sizes());
  MNEME_CHECK(q.size(-1) == k.size(-1),
              "flash_attention: head sizes of q and k differ: ", q.size(-1), " and ", k.size(-1));
  MNEME_CHECK(shape.packed || q.size(0) == k.size(0),
              "flash_attention: batch sizes of q and k differ: ", q.size(0), " and ", k.size(0));
}

void check_lengths(const Tensor& cu) {
  MNEME_CHECK(cu.scalar_type() == at::kInt && cu.dim() == 1 && cu.size(0) >= 1 &&
                  cu.device().is_cpu() && cu.is_contiguous(),
              "flash_attention: cu_seqlens must be contiguous int32 [B + 1] on the CPU, got ",
              c10::toString(cu.scalar_type()), " of shape ", cu.sizes());
}

FlashAttention configure(const Shape& shape, const Tensor& q, const Tensor& k, const Tensor& cu_q,
                         const Tensor& cu_k) {
  const FlashOptions& options = shape.options;
  FlashAttention c;
  c.dtype = dtype_of(q);
  c.batch = shape.packed ? cu_q.size(0) - 1 : q.size(0);
  c.q_len = shape.tokens(q);
  c.k_len = shape.tokens(k);
  c.q_heads = shape.heads(q);
  c.kv_heads = shape.heads(k);
  c.head_dim = q.size(-1);
  c.scale = options.scale.value_or(1 / std::sqrt(static_cast<double>(c.head_dim)));
  c.causal = options.causal;
  c.window_left = options.window_left;
  c.window_right = options.window_right;
  c.softcap = options.softcap;
  c.dropout = options.dropout_p;
  c.dropout_seed = static_cast<uint64_t>(options.dropout_seed);
  MNEME_CHECK(options.dropout_offset >= 0 && options.dropout_offset >> 32 == 0,
              "flash_attention: dropout_offset must be in [0, 2^32), got ", options.dropout_offset);
  c.dropout_offset = static_cast<uint32_t>(options.dropout_offset);
  if (shape.packed) {
    MNEME_CHECK(cu_q.size(0) == cu_k.size(0),
                "flash_attention: cu_seqlens_q and cu_seqlens_k differ in length: ", cu_q.size(0),
                " and ", cu_k.size(0));
    c.cu_q = cu_q.const_data_ptr<int32_t>();
    c.cu_k = cu_k.const_data_ptr<int32_t>();
  }
  const Tensor& slopes = options.alibi_slopes;
  if (slopes.defined()) {
    MNEME_CHECK(slopes.scalar_type() == at::kFloat && slopes.is_contiguous() &&
                    slopes.size(-1) == c.q_heads &&
                    (slopes.dim() == 1 || (slopes.dim() == 2 && slopes.size(0) == c.batch)),
                "flash_attention: alibi_slopes must be contiguous float32 [", c.q_heads, "] or [",
                c.batch, ", ", c.q_heads, "], got ", c10::toString(slopes.scalar_type()),
                " of shape ", slopes.sizes());
    c.alibi_slopes = slopes.const_data_ptr<float>();
    c.alibi_per_batch = slopes.dim() == 2;
  }
  return c;
}

// One call's tensors and options, kept from forward to backward.
struct Call : torch::CustomClassHolder {
  FlashOptions options;
  Tensor cu_q, cu_k;
  bool packed() const { return cu_q.defined(); }
};

std::tuple<Tensor, Tensor> run_forward(const Call& call, const Tensor& q, const Tensor& k,
                                       const Tensor& v) {
  const Shape shape{call.options, call.packed()};
  check_tensors(shape, q, k, v);
  if (call.packed()) {
    check_lengths(call.cu_q);
    check_lengths(call.cu_k);
  }
  const FlashAttention config = configure(shape, q, k, call.cu_q, call.cu_k);
  const Tensor o = at::empty_like(q, at::MemoryFormat::Contiguous);
  const auto lse_options =
      q.options().dtype(config.dtype == DType::kF64 ? at::kDouble : at::kFloat);
  const Tensor lse = shape.packed
                         ? at::empty({config.q_heads, config.q_len}, lse_options)
                         : at::empty({config.batch, config.q_heads, config.q_len}, lse_options);
  with_machine([&](AttentionScratch& scratch, ThreadPool& pool) {
    flash_forward(config, shape.input(q), shape.input(k), shape.input(v), shape.output(o),
                  lse.mutable_data_ptr(), scratch, pool);
  });
  return {o, lse};
}

class FlashFunction : public torch::autograd::Function<FlashFunction> {
 public:
  static variable_list forward(AutogradContext* context, const Tensor& q, const Tensor& k,
                               const Tensor& v, const c10::intrusive_ptr<Call>& call) {
    const Tensor q_in = readable(q), k_in = readable(k), v_in = readable(v);
    const auto [o, lse] = run_forward(*call, q_in, k_in, v_in);
    context->save_for_backward({q_in, k_in, v_in, o, lse});
    context->saved_data["call"] = c10::IValue::make_capsule(call);
    context->mark_non_differentiable({lse});
    return {o, lse};
  }

  static variable_list backward(AutogradContext* context, const variable_list& gradients) {
    const variable_list saved = context->get_saved_variables();
    const auto holder = context->saved_data["call"].toCapsule();
    const auto& call = static_cast<const Call&>(*holder);
    const Tensor &q = saved[0], &k = saved[1], &v = saved[2], &o = saved[3], &lse = saved[4];
    MNEME_CHECK(!at::GradMode::is_enabled(),
                "flash_attention: second derivatives are not available (create_graph=True)");
    const Shape shape{call.options, call.packed()};
    const FlashAttention config = configure(shape, q, k, call.cu_q, call.cu_k);
    const Tensor dout = readable(gradients[0]);
    const Tensor dq = at::empty_like(q, at::MemoryFormat::Contiguous);
    const Tensor dk = at::empty_like(k, at::MemoryFormat::Contiguous);
    const Tensor dv = at::empty_like(v, at::MemoryFormat::Contiguous);
    with_machine([&](AttentionScratch& scratch, ThreadPool& pool) {
      flash_backward(config, shape.input(dout), shape.input(q), shape.input(k), shape.input(v),
                     shape.input(o), lse.const_data_ptr(),
                     {shape.output(dq), shape.output(dk), shape.output(dv)}, scratch, pool);
    });
    return {dq, dk, dv, Tensor()};
  }
};

std::tuple<Tensor, Tensor> apply(const Tensor& q, const Tensor& k, const Tensor& v,
                                 c10::intrusive_ptr<Call> call) {
  const variable_list results = FlashFunction::apply(q, k, v, call);
  return {results[0], results[1]};
}

}  // namespace

std::tuple<Tensor, Tensor> flash_attention(const Tensor& q, const Tensor& k, const Tensor& v,
                                           const FlashOptions& options) {
  auto call = c10::make_intrusive<Call>();
  call->options = options;
  return apply(q, k, v, std::move(call));
}

std::tuple<Tensor, Tensor> flash_attention_varlen(const Tensor& q, const Tensor& k, const Tensor& v,
                                                  const Tensor& cu_seqlens_q,
                                                  const Tensor& cu_seqlens_k,
                                                  const FlashOptions& options) {
  MNEME_CHECK(cu_seqlens_q.defined() && cu_seqlens_k.defined(),
              "flash_attention_varlen: cu_seqlens_q and cu_seqlens_k must be defined");
  auto call = c10::make_intrusive<Call>();
  call->options = options;
  call->cu_q = cu_seqlens_q;
  call->cu_k = cu_seqlens_k;
  return apply(q, k, v, std::move(call));
}

}  // namespace mneme
