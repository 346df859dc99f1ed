#include "mneme/kernels/int8_product_vnni.h"

#include <hwy/base.h>

#include <cstring>

#include "mneme/core/error.h"
#include "mneme/kernels/vnni.h"

#if HWY_ARCH_X86_64 && (HWY_COMPILER_GCC || HWY_COMPILER_CLANG)
#define MNEME_HAVE_VNNI_CODE 1
#include <immintrin.h>
#else
#define MNEME_HAVE_VNNI_CODE 0
#endif

#if MNEME_HAVE_VNNI_CODE
HWY_PUSH_ATTRIBUTES("avx512f,avx512bw,avx512vl,avx512vnni")
namespace mneme {
namespace {

constexpr int64_t kPanel = PackedInt8::kPanel, kGroup = PackedInt8::kGroup;
// 5 x 4 accumulators, 4 weights and an activation: 25 of 32 registers. From 24 accumulators on GCC
// 12 stores each of them in every step.
constexpr int64_t kTileRows = 5, kTilePanels = 4;

template <int64_t kRows, int64_t kPanels>
inline void tile(const uint8_t* HWY_RESTRICT a, int64_t a_stride, const PackedInt8& w, int64_t p,
                 int32_t* HWY_RESTRICT c, int64_t c_stride) {
  __m512i acc[kRows * kPanels];
  HWY_UNROLL(20)
  for (int64_t i = 0; i < kRows * kPanels; ++i) acc[i] = _mm512_setzero_si512();
  const int8_t* HWY_RESTRICT from = w.panel(p);
  const int64_t stride = w.group_stride(p), groups = w.groups();
  for (int64_t g = 0; g < groups; ++g) {
    __m512i weights[kPanels];
    HWY_UNROLL(4)
    for (int64_t n = 0; n < kPanels; ++n) {
      weights[n] = _mm512_load_si512(from + g * stride + n * kPanel * kGroup);
    }
    HWY_UNROLL(5)
    for (int64_t m = 0; m < kRows; ++m) {
      int32_t codes;
      memcpy(&codes, a + m * a_stride + g * kGroup, sizeof codes);
      const __m512i activations = _mm512_set1_epi32(codes);
      HWY_UNROLL(4)
      for (int64_t n = 0; n < kPanels; ++n) {
        acc[m * kPanels + n] = _mm512_dpbusd_epi32(acc[m * kPanels + n], activations, weights[n]);
      }
    }
  }
  // The sums may wrap on the way; the difference is exact.
  HWY_UNROLL(20)
  for (int64_t i = 0; i < kRows * kPanels; ++i) {
    const int64_t m = i / kPanels, n = i % kPanels;
    const __m512i sums = _mm512_loadu_si512(w.sums() + (p + n) * kPanel);
    const __m512i bias = _mm512_mullo_epi32(sums, _mm512_set1_epi32(128));
    _mm512_storeu_si512(c + m * c_stride + n * kPanel, _mm512_sub_epi32(acc[i], bias));
  }
}

template <int64_t kRows, int64_t kPanels>
inline void rows_of_panels(const uint8_t* a, int64_t rows, int64_t a_stride, const PackedInt8& w,
                           int64_t p, int32_t* c, int64_t c_stride, int64_t m) {
  for (; m + kRows <= rows; m += kRows) {
    tile<kRows, kPanels>(a + m * a_stride, a_stride, w, p, c + m * c_stride, c_stride);
  }
  if constexpr (kRows > 1) {
    rows_of_panels<kRows - 1, kPanels>(a, rows, a_stride, w, p, c, c_stride, m);
  }
}

template <int64_t kPanels>
inline void within_block(const uint8_t* a, int64_t rows, int64_t a_stride, const PackedInt8& w,
                         int64_t first, int64_t p, int64_t end, int32_t* c, int64_t c_stride) {
  for (; p + kPanels <= end; p += kPanels) {
    rows_of_panels<kTileRows, kPanels>(a, rows, a_stride, w, p, c + (p - first) * kPanel, c_stride,
                                       0);
  }
  if constexpr (kPanels > 1) {
    within_block<kPanels - 1>(a, rows, a_stride, w, first, p, end, c, c_stride);
  }
}

void run(const uint8_t* a, int64_t rows, int64_t a_stride, const PackedInt8& w, int64_t first,
         int64_t last, int32_t* c, int64_t c_stride) {
  for (int64_t p = first, end = 0; p < last; p = end) {
    end = HWY_MIN(last, (p / PackedInt8::kBlock + 1) * PackedInt8::kBlock);
    within_block<kTilePanels>(a, rows, a_stride, w, first, p, end, c, c_stride);
  }
}

}  // namespace
}  // namespace mneme
HWY_POP_ATTRIBUTES
#endif

namespace mneme {

void int8_product_vnni(const uint8_t* biased, int64_t rows, int64_t a_stride, const PackedInt8& w,
                       int64_t first, int64_t last, int32_t* c, int64_t c_stride) {
#if MNEME_HAVE_VNNI_CODE
  run(biased, rows, a_stride, w, first, last, c, c_stride);
#else
  MNEME_ASSERT(use_vnni());
#endif
}

}  // namespace mneme
