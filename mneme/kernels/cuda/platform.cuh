// The few things the CUDA kernels need from the machine, each in one place: element types, matrix
// products and loads of a warp (sm_80 and later, as PTX), asynchronous copies, shuffles. The same
// kernels are compiled by a host compiler against emulator_testing.h, which runs a block thread by
// thread on the CPU: that is how their arithmetic and masks are tested where there is no GPU.
#pragma once

#include <cstdint>

namespace mneme::cuda {

// Element types of tensors. Products are m16n8k16 for 16-bit types; float32 is split in two tf32
// halves (products of the small halves are left out: 2^-22 of a product), m16n8k8.
struct F16 {
  using Storage = uint16_t;
};
struct BF16 {
  using Storage = uint16_t;
};
struct F32 {
  using Storage = float;
};

}  // namespace mneme::cuda

#if defined(__CUDACC__)
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define MNEME_KERNEL __global__
#define MNEME_DEVICE __device__ __forceinline__
#define MNEME_UNROLL _Pragma("unroll")
#define MNEME_UNROLL_4 _Pragma("unroll 4")
#else
#include "mneme/kernels/cuda/emulator_testing.h"
#endif

namespace mneme::cuda {

template <class T>
inline constexpr int kProductDepth = 32 / sizeof(typename T::Storage);  // k of one product

#if defined(__CUDACC__)

MNEME_DEVICE int thread_index() { return static_cast<int>(threadIdx.x); }
MNEME_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
MNEME_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
MNEME_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
MNEME_DEVICE void block_sync() { __syncthreads(); }
MNEME_DEVICE char* shared_memory() {
  extern __shared__ __align__(128) char memory[];
  return memory;
}
MNEME_DEVICE float shuffle_xor(float value, int mask) {
  return __shfl_xor_sync(0xffffffffu, value, mask);
}
MNEME_DEVICE float exp2_of(float x) { return exp2f(x); }

MNEME_DEVICE float to_float(F16, uint16_t bits) { return __half2float(__ushort_as_half(bits)); }
MNEME_DEVICE float to_float(BF16, uint16_t bits) {
  return __bfloat162float(__ushort_as_bfloat16(bits));
}
MNEME_DEVICE uint16_t from_float(F16, float x) { return __half_as_ushort(__float2half_rn(x)); }
MNEME_DEVICE uint16_t from_float(BF16, float x) {
  return __bfloat16_as_ushort(__float2bfloat16_rn(x));
}

// c += a b for one warp: a [16, 16] row major, b [16, 8], c [16, 8], spread over its lanes as the
// instruction wants them.
MNEME_DEVICE void multiply(F16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
MNEME_DEVICE void multiply(BF16, float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, "
      "{%8,%9}, {%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
// a [16, 8], b [8, 8] of tf32 values.
MNEME_DEVICE void multiply_tf32(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
MNEME_DEVICE uint32_t to_tf32(float x) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(x));
  return bits;
}

// Four matrices of 8 x 8 16-bit elements from shared memory: lane l gives the address of row l % 8
// of matrix l / 8, 16-byte aligned; register m of lane l receives elements 2 (l % 4) and the next of
// row l / 4 of matrix m, or (transposed) of its columns.
MNEME_DEVICE void load_matrices(uint32_t (&r)[4], const uint16_t* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}
MNEME_DEVICE void load_transposed(uint32_t (&r)[4], const uint16_t* row) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(row));
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// 16 bytes to shared memory, both sides 16-byte aligned; zeros where `valid` is false (the address
// must be readable all the same). Copies belong to the group that the next commit closes.
MNEME_DEVICE void copy_async(void* shared, const void* global, bool valid) {
  const auto address = static_cast<uint32_t>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
               :
               : "r"(address), "l"(global), "r"(valid ? 16 : 0)
               : "memory");
}
MNEME_DEVICE void copy_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
// Waits until at most kLeft groups are under way.
template <int kLeft>
MNEME_DEVICE void copy_wait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kLeft) : "memory");
}

#endif

inline constexpr float kLog2E = 1.4426950408889634f;
inline constexpr float kLn2 = 0.6931471805599453f;
inline constexpr float kInfinity = __builtin_huge_valf();

MNEME_DEVICE int at_most(int a, int b) { return a < b ? a : b; }
MNEME_DEVICE int at_least(int a, int b) { return a > b ? a : b; }

MNEME_DEVICE float to_float(F32, float x) { return x; }
MNEME_DEVICE float from_float(F32, float x) { return x; }

template <class T>
MNEME_DEVICE uint32_t pack_pair(T type, float low, float high) {
  return uint32_t{from_float(type, low)} | uint32_t{from_float(type, high)} << 16;
}

// Sums and maxima over the four lanes that share a row of a product.
MNEME_DEVICE float quad_sum(float x) {
  x += shuffle_xor(x, 1);
  return x + shuffle_xor(x, 2);
}
MNEME_DEVICE float quad_max(float x) {
  const float other = shuffle_xor(x, 1);
  x = x > other ? x : other;
  const float far = shuffle_xor(x, 2);
  return x > far ? x : far;
}

}  // namespace mneme::cuda
