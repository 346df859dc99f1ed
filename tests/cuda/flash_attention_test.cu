// The CUDA flash kernels on a device: against float64 on odd shapes, and against the CPU kernels on
// long ones.
#include <gtest/gtest.h>

#include "mneme/core/thread_pool.h"
#include "mneme/kernels/cuda/attention_reference_testing.h"
#include "mneme/kernels/cuda/flash_attention.h"
#include "mneme/kernels/paged_attention.h"
#include "tests/cuda/on_device.cuh"

namespace mneme::cuda {
namespace {

template <class T>
void check_case(testing::AttentionCase c, DType dtype) {
  SCOPED_TRACE(c.name + " " + std::string(dtype_name(dtype)));
  c.config.dtype = dtype;
  testing::AttentionData<T> host(c);
  using Element = typename T::Storage;
  const OnDevice<Element> q(host.q), k(host.k), v(host.v), dout(host.dout), o(host.o), dq(host.dq),
      dk(host.dk), dv(host.dv);
  const OnDevice<float> lse(host.lse), slopes(host.slopes);
  const OnDevice<int32_t> cu_q(c.cu_q), cu_k(c.cu_k);
  FlashAttention config = host.config();
  if (config.cu_q != nullptr) {
    config.cu_q = cu_q.data();
    config.cu_k = cu_k.data();
  }
  if (config.alibi_slopes != nullptr) config.alibi_slopes = slopes.data();
  const FlashTensors t = host.tensors();
  const OnDevice<char> workspace(
      std::vector<char>(static_cast<size_t>(flash_backward_workspace_bytes(config))));
  flash_forward(config, {q.data(), t.q.strides}, {k.data(), t.k.strides}, {v.data(), t.v.strides},
                {o.data(), t.o.strides}, lse.data());
  o.read(host.o);
  lse.read(host.lse);
  host.expect_forward(c.name);
  std::vector<Element> first_dq, first_dk, first_dv;
  for (int run = 0; run < 2; ++run) {
    flash_backward(config, {dout.data(), t.dout.strides}, {q.data(), t.q.strides},
                   {k.data(), t.k.strides}, {v.data(), t.v.strides}, {o.data(), t.o.strides},
                   lse.data(),
                   {{dq.data(), t.gradients.dq.strides},
                    {dk.data(), t.gradients.dk.strides},
                    {dv.data(), t.gradients.dv.strides}},
                   workspace.data());
    dq.read(host.dq);
    dk.read(host.dk);
    dv.read(host.dv);
    host.expect_backward(c.name);
    if (run == 0) {
      first_dq = host.dq;
      first_dk = host.dk;
      first_dv = host.dv;
    } else {
      EXPECT_TRUE(first_dq == host.dq && first_dk == host.dk && first_dv == host.dv)
          << "two runs differ";
    }
  }
}

TEST(CudaFlash, EqualsFloat64ForwardAndBackward) {
  for (const testing::AttentionCase& c : testing::attention_cases()) {
    check_case<F32>(c, DType::kF32);
    check_case<F16>(c, DType::kF16);
    check_case<BF16>(c, DType::kBF16);
  }
}

TEST(CudaFlash, EqualsTheCpuKernelsOnALongSequence) {
  constexpr int64_t kTokens = 1000, kQueryHeads = 9, kKvHeads = 3, kDim = 64;
  FlashAttention config;
  config.dtype = DType::kF32;
  config.batch = 1;
  config.q_len = config.k_len = kTokens;
  config.q_heads = kQueryHeads;
  config.kv_heads = kKvHeads;
  config.head_dim = kDim;
  config.scale = 0.125;
  config.causal = true;
  Rng rng(1);
  const auto normals = [&](int64_t heads) {
    std::vector<float> x(static_cast<size_t>(kTokens * heads * kDim));
    for (float& value : x) value = static_cast<float>(rng.normal());
    return x;
  };
  const std::vector<float> q = normals(kQueryHeads), k = normals(kKvHeads), v = normals(kKvHeads),
                           dout = normals(kQueryHeads);
  const HeadStrides rows = token_major(kTokens, kQueryHeads, kDim),
                    keys = token_major(kTokens, kKvHeads, kDim);
  std::vector<float> o(q.size()), lse(static_cast<size_t>(kTokens * kQueryHeads)), dq(q.size()),
      dk(k.size()), dv(v.size());
  AttentionScratch scratch;
  ThreadPool pool;
  mneme::flash_forward(config, {q.data(), rows}, {k.data(), keys}, {v.data(), keys},
                       {o.data(), rows}, lse.data(), scratch, pool);
  mneme::flash_backward(config, {dout.data(), rows}, {q.data(), rows}, {k.data(), keys},
                        {v.data(), keys}, {o.data(), rows}, lse.data(),
                        {{dq.data(), rows}, {dk.data(), keys}, {dv.data(), keys}}, scratch, pool);
  const OnDevice<float> on_q(q), on_k(k), on_v(v), on_dout(dout), on_o(o), on_lse(lse), on_dq(dq),
      on_dk(dk), on_dv(dv);
  const OnDevice<char> workspace(
      std::vector<char>(static_cast<size_t>(flash_backward_workspace_bytes(config))));
  flash_forward(config, {on_q.data(), rows}, {on_k.data(), keys}, {on_v.data(), keys},
                {on_o.data(), rows}, on_lse.data());
  flash_backward(config, {on_dout.data(), rows}, {on_q.data(), rows}, {on_k.data(), keys},
                 {on_v.data(), keys}, {on_o.data(), rows}, on_lse.data(),
                 {{on_dq.data(), rows}, {on_dk.data(), keys}, {on_dv.data(), keys}},
                 workspace.data());
  const auto expect_near = [](const OnDevice<float>& device, const std::vector<float>& want,
                              double limit, const char* name) {
    std::vector<float> got(want.size());
    device.read(got);
    for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], limit) << name << i;
  };
  expect_near(on_o, o, 1e-5, "o ");
  expect_near(on_lse, lse, 1e-5, "lse ");
  expect_near(on_dq, dq, 3e-5, "dq ");
  expect_near(on_dk, dk, 3e-5, "dk ");
  expect_near(on_dv, dv, 3e-5, "dv ");
}

}  // namespace
}  // namespace mneme::cuda
